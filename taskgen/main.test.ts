import { execFile } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { readScriptParts } from './script-parts.ts';
import { taskWith } from './testing.ts';
import { remoteTwin } from './twin.ts';

const IN = taskWith({});
const OUT = remoteTwin(IN, { step: undefined, parts: readScriptParts() });

// A process for each look, on a machine that has other things to do.
vi.setConfig({ testTimeout: 60_000 });

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'taskgen-'));
  await writeFile(path.join(folder, 'in.yaml'), IN);
});

afterEach(async () => await rm(folder, { recursive: true }));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command as a process of its own, in the folder. */
async function taskgen(argv: string, input = '', isHeard = true): Promise<Ended> {
  return await new Promise((resolve) => {
    const main = path.join(import.meta.dirname, 'main.ts');
    const child = execFile(process.execPath, [main, ...argv.split(' ')], { cwd: folder }, (_, stdout, stderr) => {
      resolve({ code: child.exitCode, stdout, stderr });
    });
    if (!isHeard) child.stdout?.destroy();
    child.stdin?.end(input);
  });
}

test('writes a file, which --check is content with until somebody changes it', async () => {
  const argv = '--buildah-task in.yaml --remote-task out.yaml';
  expect(await taskgen(argv)).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(await readFile(path.join(folder, 'out.yaml'), 'utf8')).toBe(OUT);
  expect(await taskgen(`${argv} --check`)).toEqual({ code: 0, stdout: '', stderr: '' });
  await writeFile(path.join(folder, 'out.yaml'), `${OUT}# changed\n`);
  const { code, stdout, stderr } = await taskgen(`${argv} --check`);
  expect(code).toBe(1);
  expect(stdout).toMatch(/^--- out\.yaml\n[^]*\n-# changed\n$/);
  expect(stderr).toBe('taskgen: out.yaml is not what it is generated from: run the same without --check\n');
});

test('reads standard input and writes standard output', async () => {
  expect(await taskgen('--buildah-task - --remote-task -', IN)).toEqual({ code: 0, stdout: OUT, stderr: '' });
});

test('standard output that nobody reads is a failure, not a difference', async () => {
  expect(await taskgen('--buildah-task - --remote-task -', IN, false)).toEqual({
    code: 2,
    stdout: '',
    stderr: 'taskgen: cannot write -: write EPIPE\n',
  });
});

test('does not write over the Task, whatever its file is called', async () => {
  await symlink('in.yaml', path.join(folder, 'link.yaml'));
  const { code, stderr } = await taskgen('--buildah-task in.yaml --remote-task link.yaml');
  expect(code).toBe(2);
  expect(stderr).toBe('taskgen: link.yaml is the Task itself: the twin goes into another file\n');
  expect(await readFile(path.join(folder, 'in.yaml'), 'utf8')).toBe(IN);
});

test.each([
  [
    'a Pipeline',
    'apiVersion: tekton.dev/v1\nkind: Pipeline\n',
    'a Pipeline of tekton.dev/v1, not a Task of tekton.dev/v1',
  ],
  ['an alias of nothing', 'a: *x\n', 'malformed YAML: Unresolved alias (the anchor must be set before the alias): x'],
])('%s: one line, 2, and no file', async (_, input, message) => {
  expect(await taskgen('--buildah-task - --remote-task out.yaml', input)).toEqual({
    code: 2,
    stdout: '',
    stderr: `taskgen: ${message}\n`,
  });
  expect(await readdir(folder)).toEqual(['in.yaml']);
});
