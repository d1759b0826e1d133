import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import path from 'node:path';
import type { ChildProcess } from 'node:child_process';
import { spawnTied } from '../process.ts';
import type { ContainerRun, PodSandbox, Runtime, VolumeContent } from './runtime.ts';

const NOT_STARTED = 127;

/**
 * For machines where we are not root: steps run as this user in a folder per Pod, and the mounts' paths are replaced by that
 * folder's in the script, the arguments and the variables. It keeps nothing from a step that wants to see it.
 */
export function createFolderRuntime(parent: string): Runtime {
  return {
    description:
      'not root on Linux, so steps are not isolated: they run as this user in a temporary folder, with paths such as /ssh ' +
      'replaced in their text; images are not pulled',
    start: async (volumes) => {
      await mkdir(parent, { recursive: true });
      const sandbox = new FolderSandbox(await mkdtemp(path.join(parent, 'pod-')));
      await sandbox.fill(volumes);
      return sandbox;
    },
  };
}

class FolderSandbox implements PodSandbox {
  readonly #folder: string;
  #child: ChildProcess | undefined;
  #destroyed = false;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async fill(volumes: readonly VolumeContent[]): Promise<void> {
    for (const { name, files } of volumes) {
      await mkdir(this.#path(name), { recursive: true });
      for (const { path: file, content, mode } of files) {
        await mkdir(path.dirname(this.#path(name, file)), { recursive: true });
        await writeFile(this.#path(name, file), content);
        await chmod(this.#path(name, file), mode);
      }
    }
  }

  async run(container: ContainerRun): Promise<number> {
    const { mounts, workingDir, env, logPath } = container;
    const home = path.join(this.#folder, 'home');
    await mkdir(home, { recursive: true });
    const places = mounts.map(({ volume, mountPath, subPath = '' }) => ({
      mountPath,
      place: this.#path(volume, subPath),
    }));
    const translate = (text: string): string => replacePaths(text, places);
    const [command = '', ...args] = container.argv.map(translate);
    await rewrite(command, translate);
    const cwd = workingDir === '/' ? this.#folder : translate(workingDir);
    await mkdir(cwd, { recursive: true });
    const log = await open(logPath, 'a', 0o600);
    try {
      const variables = Object.fromEntries(Array.from(env, ([name, value]) => [name, translate(value)]));
      const child = spawnTied(command, args, {
        cwd,
        env: { ...variables, HOME: home },
        stdio: ['ignore', log.fd, log.fd],
      });
      this.#child = child;
      if (this.#destroyed) this.signal('SIGKILL');
      const [code, signal] = await exitOf(child);
      return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
    } finally {
      this.#child = undefined;
      await log.close();
    }
  }

  signal(signal: 'SIGTERM' | 'SIGKILL'): void {
    const pid = this.#child?.pid;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // It has just ended.
    }
  }

  readFile(volume: string, file: string): Promise<string | undefined> {
    return readFile(this.#path(volume, file), 'utf8').catch(() => undefined);
  }

  async destroy(): Promise<void> {
    this.#destroyed = true;
    this.signal('SIGKILL');
    await rm(this.#folder, { recursive: true, force: true });
  }

  #path(volume: string, ...rest: string[]): string {
    return path.join(this.#folder, 'volumes', volume, ...rest);
  }
}

/** Every mention of a mount's path that stands by itself, the deepest mount first. */
export function replacePaths(text: string, places: readonly { mountPath: string; place: string }[]): string {
  const ordered = places.toSorted((a, b) => b.mountPath.length - a.mountPath.length);
  const alternatives = ordered.map(({ mountPath }) => RegExp.escape(mountPath)).join('|');
  if (alternatives === '') return text;
  const placeOf = new Map(ordered.map(({ mountPath, place }) => [mountPath, place]));
  const mention = new RegExp(`(?<![\\w./)}*-])(?:${alternatives})(?![\\w.-])`, 'g');
  return text.replaceAll(mention, (mountPath) => placeOf.get(mountPath) ?? mountPath);
}

async function rewrite(script: string, translate: (text: string) => string): Promise<void> {
  const text = await readFile(script, 'utf8').catch(() => undefined);
  if (text?.startsWith('#!') === true) await writeFile(script, translate(text));
}

async function exitOf(child: ChildProcess): Promise<[number | null, NodeJS.Signals | null]> {
  try {
    await once(child, 'exit');
    return [child.exitCode, child.signalCode];
  } catch {
    return [NOT_STARTED, null];
  }
}
