import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Workplace } from './cache.ts';
import type { Fetch } from './download.ts';

/** A home of its own with nothing in the cache, a network that is closed, and a stand-in for the `go` command. */
export interface Home extends Workplace {
  readonly folder: string;
  readonly cache: string;
  readonly fetch: Fetch;
  /** What was told to the person who waits. */
  readonly told: string[];
  /** `go` runs this shell script from now on; it finds $HOME and what Go is given. */
  useGo(script: string): Promise<void>;
  /** What the script wrote to $HOME/NAME. */
  read(name: string): Promise<string>;
  remove(): Promise<void>;
}

/** As a shell says that there is no such command. */
export const NO_GO = 'exit 127';

/** Builds programs that hold their own name, and notes each `go build` in $HOME/builds. */
export const FAKE_GO = `
case "$1" in
  list) echo 'go: downloading example.com/a v1.0.0' >&2; echo a; echo b ;;
  build)
    pwd >> "$HOME/builds"
    echo "$*" > "$HOME/arguments"
    env > "$HOME/environment"
    basename "$6" > "$6" ;;
esac`;

export async function createHome(): Promise<Home> {
  const folder = await mkdtemp(path.join(tmpdir(), 'home-test-'));
  const bin = path.join(folder, 'bin');
  await mkdir(bin);
  const told: string[] = [];
  const home: Home = {
    folder,
    cache: path.join(folder, '.cache', 'multi-platform-controller'),
    env: { HOME: folder, PATH: `${bin}:/usr/sbin:/usr/bin:/sbin:/bin` },
    progress: { step: (text) => told.push(text), update: (text) => told.push(text) },
    told,
    fetch: async () => {
      throw new TypeError('fetch failed', { cause: new Error('the network is closed') });
    },
    useGo: async (script) => {
      await writeFile(path.join(bin, 'go'), `#!/bin/sh\n${script}\n`);
      await chmod(path.join(bin, 'go'), 0o755);
    },
    read: async (name) => await readFile(path.join(folder, name), 'utf8'),
    remove: async () => await rm(folder, { recursive: true }),
  };
  await home.useGo(NO_GO);
  return home;
}

/** Writes a file and the folders on the way to it. */
export async function put(file: string, content: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, content);
}
