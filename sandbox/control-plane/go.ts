import { mkdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { AppError } from '#shared/errors.ts';
import { spawnTied } from '../process.ts';
import type { Workplace } from './cache.ts';
import { type Machine, thisMachine } from './machine.ts';

/** Something that a module in `sandbox/tools` pins: its go.mod says which version, its go.sum what that is. */
export interface Pinned {
  /** Folder in `sandbox/tools`. */
  readonly tools: string;
  /** Path of the Go module that carries the version. */
  readonly module: string;
}

/** A program that Go builds. */
export interface GoTool extends Pinned {
  readonly name: string;
  /** Its main package, a `tool` of the go.mod. */
  readonly package: string;
  readonly firstBuild: string;
  /** Names of the string variables to set, and their values. */
  readonly variables?: (version: string) => Readonly<Record<string, string>>;
}

/** The version that go.mod pins, such as `v1.37.2`. */
export async function pinnedVersion({ tools, module }: Pinned): Promise<string> {
  const goMod = await readFile(path.join(toolsFolder(tools), 'go.mod'), 'utf8');
  const lines = goMod.split('\n').map((line) => line.trim().split(' '));
  const version = lines.find(([name]) => name === module)?.[1];
  if (version === undefined) throw new AppError('not-pinned', `sandbox/tools/${tools}/go.mod does not name ${module}`);
  return version;
}

/**
 * Builds `tool` into `folder`, as a file of the tool's name.
 *
 * @throws AppError `no-go` where there is no `go` command, `go-failed` with what it said
 */
export async function buildGoTool(tool: GoTool, folder: string, workplace: Workplace): Promise<void> {
  const { progress } = workplace;
  const version = await pinnedVersion(tool);
  progress.step(`building ${tool.name} ${version} with Go; the first time this takes ${tool.firstBuild}`);
  const startMs = performance.now();
  const modules = await moduleCount(tool.tools);
  // Go leaves its temporary files where it is killed; here they go with the folder.
  const scratch = path.join(folder, 'tmp');
  let [fetched, compiled, packages] = [0, 0, 0];
  const show = (): void => {
    const what =
      packages === 0
        ? `fetched ${fetched} of at most ${modules} modules`
        : `compiled ${compiled} of at most ${packages} packages`;
    progress.update(`${tool.name}: ${what}, ${elapsed(performance.now() - startMs)}`);
  };
  const timer = setInterval(show, 1_000);
  const onLine = (line: string): void => {
    if (line.startsWith('go: downloading ')) fetched++;
    else if (packages > 0 && !line.includes(' ')) compiled++;
  };
  try {
    const go = { tools: tool.tools, workplace, onLine };
    const list = await runGo(['list', '-mod=readonly', '-deps', tool.package], go);
    packages = list.trim().split('\n').length;
    const variables = Object.entries(tool.variables?.(version) ?? {}).map(([name, value]) => `-X ${name}=${value}`);
    const output = path.join(folder, tool.name);
    const build = ['build', '-mod=readonly', '-v', `-ldflags=${variables.join(' ')}`, '-o', output, tool.package];
    await mkdir(scratch);
    await runGo(build, { ...go, extraEnv: { GOTMPDIR: scratch } });
    await rm(scratch, { recursive: true });
  } finally {
    clearInterval(timer);
    progress.update('');
  }
  progress.step(`built ${tool.name} ${version} in ${elapsed(performance.now() - startMs)}`);
}

/**
 * The folder with the module's files, verified against go.sum.
 *
 * @throws AppError `no-go` where there is no `go` command, `go-failed` with what it said
 */
export async function fetchGoModule({ tools, module }: Pinned, workplace: Workplace): Promise<string> {
  const answer: unknown = JSON.parse(
    await runGo(['mod', 'download', '-json', module], { tools, workplace, onLine: () => {} }),
  );
  if (typeof answer === 'object' && answer !== null && 'Dir' in answer && typeof answer.Dir === 'string') {
    return answer.Dir;
  }
  throw new AppError('go-failed', `go mod download ${module} named no folder`);
}

interface GoRun {
  readonly tools: string;
  readonly workplace: Workplace;
  /** Gets each line of standard error. */
  readonly onLine: (line: string) => void;
  readonly extraEnv?: NodeJS.ProcessEnv;
}

/** Gives standard output. */
async function runGo(args: readonly string[], { tools, workplace, onLine, extraEnv }: GoRun): Promise<string> {
  const child = spawnTied('go', args, {
    cwd: toolsFolder(tools),
    env: { ...workplace.env, ...machineEnv(thisMachine()), ...extraEnv },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once('error', () => resolve(NOT_FOUND));
    child.once('close', resolve);
  });
  const lastLines: string[] = [];
  if (child.stderr !== null) {
    createInterface(child.stderr).on('line', (line) => {
      onLine(line);
      lastLines.push(line);
      lastLines.splice(0, lastLines.length - 3);
    });
  }
  const [code, output] = await Promise.all([ended, child.stdout === null ? '' : text(child.stdout)]);
  if (code === NOT_FOUND) throw new AppError('no-go', 'there is no go command');
  if (code !== 0) {
    // With `-json` it is standard output that says why.
    const why = lastLines.length > 0 ? lastLines.join(' | ') : output.replaceAll(/\s+/g, ' ');
    throw new AppError('go-failed', `go ${args[0]}: ${why.slice(-400)}`);
  }
  return output;
}

/** What a shell exits with where the command is not there. */
const NOT_FOUND = 127;

/** The user's settings hold but for those that would make a program for another machine, or from another go.mod. */
function machineEnv({ os, arch }: Machine): NodeJS.ProcessEnv {
  return { GOOS: os, GOARCH: arch, GOWORK: 'off' };
}

function toolsFolder(tools: string): string {
  return fileURLToPath(new URL(`../tools/${tools}`, import.meta.url));
}

/** The go.sum has a line for each module that is used, and one for each go.mod that was looked at. */
async function moduleCount(tools: string): Promise<number> {
  const goSum = await readFile(path.join(toolsFolder(tools), 'go.sum'), 'utf8');
  return goSum.split('\n').filter((line) => line !== '' && !line.includes('/go.mod ')).length;
}

function elapsed(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
