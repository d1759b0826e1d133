import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError, messageOf } from '#shared/errors.ts';
import { spawnTied } from '../process.ts';
import { startTimeOf } from '../run-folder.ts';
import { runCommand } from './command.ts';
import { type Exec, type Host, type HostSpec, ROOT } from './host.ts';
import { type SearchIn, inspectionOf } from './inspect.ts';
import { namespaceFaults } from './namespace-faults.ts';
import { type HostNetwork, type Link, plug, unplug } from './network.ts';
import { lineAfter, linesOf, preparationOf } from './prepare.ts';
import { waitForSsh } from './wait-for-ssh.ts';

export interface NamespaceHostOptions extends HostSpec {
  /** A line as in `authorized_keys`. */
  readonly adminPublicKey: string;
  readonly network: HostNetwork;
  /** Gets sshd's log and a mount point; other runs' folders beside it are hidden from the host. */
  readonly runFolder: string;
}

const INIT = fileURLToPath(new URL('namespace-init.sh', import.meta.url));
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const NAMESPACES = ['--net', '--mount', '--pid', '--uts', '--ipc', '--cgroup'];
const SEARCH_IN: SearchIn = {
  folders: ['/home', '/tmp', '/var/tmp', '/run', '/dev/shm', '/dev/mqueue'],
  changes: '/run/disk/upper',
};
const DEFAULT_DISK_MB = 1024;
const DEFAULT_PORT = 22;

/** Root in a container is not enough: it must be allowed to make namespaces and to mount. */
export async function canMakeNamespaces(): Promise<boolean> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false;
  const mount = ['/bin/sh', '-c', 'mount -t tmpfs tmpfs /proc'];
  return (await runCommand('unshare', [...NAMESPACES, '--fork', ...mount])).code === 0;
}

/**
 * A host made of namespaces, an overlay of this machine's root and a real sshd. Needs root on Linux. The kernel takes all of
 * it away when its process 1 ends, and kills that when the thread that called this ends, however it ends.
 *
 * @throws AppError `host-failed` with the end of the host's log.
 */
export async function startNamespaceHost(options: NamespaceHostOptions): Promise<Host> {
  const { name, runFolder, network } = options;
  const folder = path.join(runFolder, `host-${name}`);
  const link = network.nextLink();
  const environment = environmentOf(options, folder, link);
  await mkdir(path.join(folder, 'disk'), { recursive: true });
  const logPath = path.join(folder, 'sshd.log');
  const log = await open(logPath, 'a', 0o600);
  const args = [...NAMESPACES, '--fork', '--kill-child', '/bin/sh', INIT];
  const unshare = spawnTied('unshare', args, { env: environment, stdio: ['pipe', 'pipe', log.fd] });
  await log.close();
  // Seen as an output that ends at once.
  unshare.on('error', () => undefined);
  const stop = async (): Promise<void> => {
    await endHost(unshare, link);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    return await bringUp(unshare, { options, link, stop });
  } catch (cause) {
    const end = (await readFile(logPath, 'utf8')).trimEnd().split('\n').at(-1) ?? '';
    await stop();
    throw new AppError('host-failed', `host ${name} did not start: ${messageOf(cause)}; its log ends: ${end}`, {
      cause,
    });
  }
}

interface Parts {
  readonly options: NamespaceHostOptions;
  readonly link: Link;
  readonly stop: () => Promise<void>;
}

async function bringUp(unshare: ChildProcess, { options, link, stop }: Parts): Promise<Host> {
  const { stdin, stdout } = unshare;
  if (stdin === null || stdout === null) throw new TypeError('spawned without pipes');
  stdin.on('error', () => undefined);
  const lines = linesOf(stdout);
  await lineAfter('up', lines);
  const pid = await onlyChildOf(unshare.pid ?? 0);
  await plug(link, pid);
  const keyLine = lineAfter('host-key ', lines);
  stdin.end('go\n');
  let hostKey = await keyLine;

  const isUp = (): boolean => isRunning(unshare);
  const exec = execIn(pid, isUp);
  const { port = DEFAULT_PORT } = options;
  await waitForSsh(link.hostV4, port);
  const faults = namespaceFaults({ exec, pid, link, isUp, port });
  return {
    kind: 'namespace',
    name: options.name,
    platform: options.platform,
    address: link.hostV4,
    addressV6: link.hostV6,
    port,
    admin: (options.admin ?? ROOT).name,
    get hostKey() {
      return hostKey;
    },
    exec,
    ...inspectionOf(exec, SEARCH_IN),
    ...faults,
    changeHostKey: async () => (hostKey = await faults.changeHostKey()),
    stop: async () => {
      await faults.setSlow(0);
      await stop();
    },
  };
}

function environmentOf(options: NamespaceHostOptions, folder: string, link: Link): NodeJS.ProcessEnv {
  const { port = DEFAULT_PORT, diskMb = DEFAULT_DISK_MB, adminPublicKey, runFolder } = options;
  return {
    PATH,
    LANG: 'C.UTF-8',
    ...preparationOf(options, port, adminPublicKey),
    MOUNT_POINT: path.join(folder, 'disk'),
    HIDE: path.dirname(runFolder),
    DISK_MB: String(diskMb),
    ADDRESS4: link.hostV4,
    PEER4: link.peerV4,
    ADDRESS6: link.hostV6 ?? '',
    PEER6: link.peerV6 ?? '',
  };
}

async function onlyChildOf(pid: number): Promise<number> {
  return Number(await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8'));
}

/** Once the host has ended, somebody else may have its number. */
function execIn(pid: number, isUp: () => boolean): Exec {
  const enter = ['--target', String(pid), '--net', '--mount', '--pid', '--uts', '--ipc', '--cgroup', '--'];
  const env = { PATH, LANG: 'C.UTF-8', HOME: '/root' };
  return async (argv, options) => {
    if (!isUp()) throw new AppError('host-stopped', 'the host has been stopped');
    return await runCommand('nsenter', [...enter, ...argv], { ...options, env });
  };
}

/** When process 1 has ended, every process of the host has; with the last of them go its mounts and its network. */
async function endHost(unshare: ChildProcess, link: Link): Promise<void> {
  await unplug(link);
  if (!isRunning(unshare) || unshare.pid === undefined) return;
  const exited = once(unshare, 'exit');
  const init = await onlyChildOf(unshare.pid).catch(() => 0);
  if (init === 0 || (await startTimeOf(init)) === undefined) unshare.kill('SIGKILL');
  else process.kill(init, 'SIGKILL');
  await exited;
}

function isRunning({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode === null && signalCode === null;
}
