import { type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { chmod, copyFile, mkdir, open, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { AppError } from '#shared/errors.ts';
import { spawnTied } from '../process.ts';
import { containerFiles, type Mount, PRIVATE_FOLDERS } from './container-files.ts';
import type { ContainerRun, PodSandbox, Runtime, VolumeContent } from './runtime.ts';

const POD_INIT = path.join(import.meta.dirname, 'pod-init.sh');
const CONTAINER_INIT = path.join(import.meta.dirname, 'container-init.sh');
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** In many containers these are mounts, which an overlay of `/` does not show. */
const COPIED = ['etc/resolv.conf', 'etc/hosts'];

const OVERLAY_FOLDERS = [
  { folder: 'upper', mode: 0o755 },
  { folder: 'upper/.pod', mode: 0o700 },
  { folder: 'upper/etc', mode: 0o755 },
  { folder: 'work', mode: 0o755 },
  { folder: 'root', mode: 0o755 },
] as const;

const KILLED = 137;

/**
 * Each Pod is a process namespace with a file system in memory, each container in it a mount namespace with an overlay of this
 * machine's `/`: mounts are at their real paths, and nothing outlives the Pod. The network is the machine's. Needs Linux and root.
 */
export function createNamespaceRuntime(mountPoint: string): Runtime {
  return {
    description:
      "images are not pulled: steps run as root on a private overlay of this machine's files, with this machine's network",
    start: async (volumes) => {
      await mkdir(mountPoint, { recursive: true });
      const sandbox = new NamespaceSandbox(mountPoint);
      try {
        await sandbox.fill(volumes);
        return sandbox;
      } catch (error) {
        await sandbox.destroy();
        throw error;
      }
    },
  };
}

class NamespaceSandbox implements PodSandbox {
  readonly #mountPoint: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #up = Promise.withResolvers<string>();
  readonly #readOnly = new Set<string>();
  #stderr = '';
  #running: { name: string; pid: number | undefined; exit: (code: number) => void } | undefined;

  constructor(mountPoint: string) {
    this.#mountPoint = mountPoint;
    const args = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '/bin/sh', POD_INIT];
    this.#child = spawnTied('unshare', args, {
      env: { PATH, LANG: 'C.UTF-8', MOUNT_POINT: mountPoint, CONTAINER_INIT },
      stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
    });
    this.#exited = once(this.#child, 'exit').catch(() => undefined);
    void this.#exited.then(() => this.#ended());
    this.#child.stdin?.on('error', () => undefined);
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text));
    const reports = this.#child.stdio[3];
    if (reports instanceof Readable) createInterface({ input: reports }).on('line', (line) => this.#report(line));
  }

  async fill(volumes: readonly VolumeContent[]): Promise<void> {
    const root = await this.#up.promise;
    for (const volume of volumes) {
      const folder = path.join('volumes', volume.name);
      await makeFolder(root, folder, 0o777);
      if (volume.readOnly) this.#readOnly.add(volume.name);
      for (const { path: name, content, mode } of volume.files) {
        await makeFolder(root, path.dirname(path.join(folder, name)), 0o777);
        const file = path.join(root, folder, name);
        await writeFile(file, content);
        await chmod(file, mode);
      }
    }
  }

  async run(container: ContainerRun): Promise<number> {
    const root = await this.#up.promise;
    const folder = path.join(root, 'containers', container.name);
    const mounts = await Promise.all(container.mounts.map((mount) => this.#sourceOf(root, mount)));
    await makeFolder(root, path.join('containers', container.name), 0o755);
    for (const made of [...OVERLAY_FOLDERS, ...PRIVATE_FOLDERS]) await makeFolder(folder, made.folder, made.mode);
    await Promise.all(
      COPIED.map((file) => copyFile(`/${file}`, path.join(folder, 'upper', file)).catch(() => undefined)),
    );
    const files = containerFiles(container, mounts, this.#mountPoint);
    await Promise.all(Object.entries(files).map(([name, text]) => writeFile(path.join(folder, name), text)));
    if (this.#isOver()) return KILLED;
    return await new Promise<number>((resolve) => {
      this.#running = { name: container.name, pid: undefined, exit: resolve };
      this.#child.stdin?.write(`${container.name} ${container.logPath}\n`);
    });
  }

  signal(signal: 'SIGTERM' | 'SIGKILL'): void {
    const pid = this.#running?.pid;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // It has just ended.
    }
  }

  async readFile(volume: string, name: string): Promise<string | undefined> {
    const file = path.join(await this.#up.promise, 'volumes', volume, name);
    // A link that a step made would lead out of the Pod.
    const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => null);
    if (handle === null) return undefined;
    try {
      return await handle.readFile('utf8');
    } finally {
      await handle.close();
    }
  }

  async destroy(): Promise<void> {
    const { pid } = this.#child;
    // Only while it is not reaped: until then nobody else can be given its number.
    if (!this.#isOver() && pid !== undefined) {
      try {
        process.kill(-pid, 'SIGKILL');
      } catch {
        // It has just ended.
      }
    }
    await this.#exited;
  }

  #isOver(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  #ended(): void {
    const why = this.#stderr.trim().split('\n').at(-1) ?? '';
    this.#up.promise.catch(() => undefined);
    this.#up.reject(new AppError('pod-failed', `the Pod's namespaces could not be made: ${why}`));
    this.#running?.exit(KILLED);
    this.#running = undefined;
  }

  #report(line: string): void {
    const [what, subject = '', number] = line.split(' ');
    const running = this.#running;
    if (what === 'up') {
      this.#up.resolve(path.join(`/proc/${subject}/root`, this.#mountPoint));
    } else if (running?.name === subject && what === 'running') {
      running.pid = Number(number);
    } else if (running?.name === subject && what === 'exit') {
      this.#running = undefined;
      running.exit(Number(number));
    }
  }

  async #sourceOf(root: string, mount: ContainerRun['mounts'][number]): Promise<Mount> {
    const { volume, mountPath, subPath = '', readOnly } = mount;
    const source = path.join('volumes', volume, subPath);
    const found = await stat(path.join(root, source)).catch(() => undefined);
    if (found === undefined) await makeFolder(root, source, 0o777);
    return { source, mountPath, isFile: found?.isFile() ?? false, readOnly: readOnly || this.#readOnly.has(volume) };
  }
}

/**
 * Makes `folder` and what is missing between it and `root`, which is there; the process's umask does not matter.
 *
 * Not with mkdir's `recursive`: where `root` lies below /proc and its process has just ended, that never comes back.
 */
async function makeFolder(root: string, folder: string, mode: number): Promise<void> {
  let at = root;
  for (const name of folder.split('/').filter(Boolean)) {
    at = path.join(at, name);
    try {
      await mkdir(at);
      await chmod(at, mode);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    }
  }
}
