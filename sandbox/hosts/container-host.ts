import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError, messageOf } from '#shared/errors.ts';
import type { Progress } from '../packages.ts';
import { spawnTied } from '../process.ts';
import { mustRun, runCommand } from './command.ts';
import { type Exec, type Faults, type Host, type HostSpec, ROOT } from './host.ts';
import { type SearchIn, inspectionOf } from './inspect.ts';
import { lineAfter, linesOf, preparationOf } from './prepare.ts';
import { shellFaults, shellOn } from './shell-faults.ts';
import { waitForSsh } from './wait-for-ssh.ts';

export interface ContainerEngine {
  /** `docker` or `podman`. */
  readonly command: string;
  /** What this machine needs on top, such as `--build-arg BASE=…` where no image can be pulled. */
  readonly buildFlags?: readonly string[];
  readonly runFlags?: readonly string[];
}

export interface ContainerHostOptions extends HostSpec {
  readonly adminPublicKey: string;
  readonly engine: ContainerEngine;
  /** As {@link buildHostImage} returned it. */
  readonly image: string;
  /** Gets the container's log. */
  readonly runFolder: string;
}

const CONTEXT = fileURLToPath(new URL('.', import.meta.url));
const DOCKERFILE = path.join(CONTEXT, 'container', 'Dockerfile');
const IMAGE_SOURCES = [
  DOCKERFILE,
  path.join(CONTEXT, 'container', 'entrypoint.sh'),
  path.join(CONTEXT, 'prepare-host.sh'),
];
const SEARCH_IN: SearchIn = {
  folders: ['/home', '/tmp', '/var/tmp', '/var/mail', '/var/spool', '/run', '/dev/shm', '/dev/mqueue', '/etc'],
  changes: '',
};

/** The first of Docker and Podman that works here. */
export async function findContainerEngine(): Promise<ContainerEngine | undefined> {
  for (const command of ['docker', 'podman']) {
    const answer = await runCommand(command, ['info']).catch(() => undefined);
    if (answer?.code === 0) return { command };
  }
  return undefined;
}

/** Builds the image unless this machine has it, and returns its name. */
export async function buildHostImage(engine: ContainerEngine, progress: Progress): Promise<string> {
  const { command, buildFlags = [] } = engine;
  const sources = await Promise.all(IMAGE_SOURCES.map(async (file) => await readFile(file)));
  const hash = createHash('sha256').update(Buffer.concat(sources)).update(buildFlags.join(' '));
  const image = `localhost/mpc-sandbox-host:${hash.digest('hex').slice(0, 16)}`;
  if ((await runCommand(command, ['image', 'inspect', image])).code === 0) return image;
  progress(`Building the image of the hosts with ${command}, once (about a minute)`);
  await mustRun(command, ['build', ...buildFlags, '--tag', image, '--file', DOCKERFILE, CONTEXT]);
  return image;
}

/**
 * A host that is a container; its sshd listens on a port of this machine's loopback. It ends when this process does.
 *
 * @throws AppError `host-failed` with the end of the container's log.
 */
export async function startContainerHost(options: ContainerHostOptions): Promise<Host> {
  const { name, engine, image, adminPublicKey, runFolder } = options;
  const port = await freePort();
  const environment = preparationOf(options, port, adminPublicKey);
  const container = `mpc-sandbox-${name}-${randomBytes(4).toString('hex')}`;
  const flags = ['--rm', '--interactive', '--init', '--name', container, '--hostname', name];
  // For sshd, which writes to the audit log; Docker gives it anyway.
  const rights = ['--cap-add', 'AUDIT_WRITE'];
  const network = ['--publish', `127.0.0.1:${port}:${port}`];
  const variables = Object.entries(environment).flatMap(([key, value]) => ['--env', `${key}=${value}`]);
  const args = ['run', ...flags, ...rights, ...network, ...variables, ...(engine.runFlags ?? []), image];

  const logPath = path.join(runFolder, `${name}.log`);
  const log = await open(logPath, 'a', 0o600);
  const client = spawnTied(engine.command, args, { stdio: ['pipe', 'pipe', log.fd] });
  await log.close();
  const { stdin, stdout } = client;
  if (stdin === null || stdout === null) throw new TypeError('spawned without pipes');
  stdin.on('error', () => undefined);
  const exited = once(client, 'exit').catch(() => undefined);
  const stop = async (): Promise<void> => {
    await runCommand(engine.command, ['kill', container]);
    await exited;
  };
  try {
    const hostKey = await lineAfter('host-key ', linesOf(stdout));
    await waitForSsh('127.0.0.1', port);
    return hostOf(options, { container, port, hostKey, stop });
  } catch (cause) {
    await stop();
    const end = (await readFile(logPath, 'utf8')).trimEnd().split('\n').at(-1) ?? '';
    const message = `host ${name} did not start: ${messageOf(cause)}; its log ends: ${end}`;
    throw new AppError('host-failed', message, { cause });
  }
}

interface Running {
  readonly container: string;
  readonly port: number;
  readonly hostKey: string;
  readonly stop: () => Promise<void>;
}

function hostOf({ name, platform, admin = ROOT, engine }: ContainerHostOptions, running: Running): Host {
  const { container, port, stop } = running;
  let { hostKey } = running;
  const exec: Exec = async (argv, options) =>
    await runCommand(engine.command, ['exec', '--interactive', container, ...argv], options);
  const faults = shellFaults(exec);
  return {
    kind: 'container',
    name,
    platform,
    address: '127.0.0.1',
    addressV6: undefined,
    port,
    admin: admin.name,
    get hostKey() {
      return hostKey;
    },
    exec,
    ...inspectionOf(exec, SEARCH_IN),
    ...unsupportedFaults('container'),
    ...faults,
    changeHostKey: async () => (hostKey = await faults.changeHostKey()),
    setHung: async (on) => void (await shellOn(exec)(signalSshd(on ? 'STOP' : 'CONT'))),
    stop,
  };
}

/** The engine's own pause would need cgroups, and would keep the container from ending with this process. */
function signalSshd(signal: string): string {
  return `for comm in /proc/[0-9]*/comm; do
    pid=\${comm#/proc/}
    [ "$(cat "$comm" 2>/dev/null)" != sshd ] || kill -${signal} "\${pid%/comm}"
  done`;
}

/** Each says that hosts of this kind do not have it. */
export function unsupportedFaults(kind: string): Faults {
  const refuse = (fault: string) => async (): Promise<never> => {
    throw new AppError('fault-unsupported', `${fault}: a ${kind} host cannot do it; namespace hosts can`);
  };
  return {
    setUnreachable: refuse('unreachable'),
    setSlow: refuse('slow'),
    setHung: refuse('hung'),
    setFull: refuse('full'),
    setReadOnlyHome: refuse('read-only home'),
    breakSudo: refuse('broken sudo'),
    removeUseradd: refuse('no useradd'),
    changeHostKey: refuse('another host key'),
    reboot: refuse('reboot'),
  };
}

/** Free at this moment; the engine refuses to start where somebody else was quicker. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  if (address === null || typeof address === 'string') throw new TypeError('a TCP server without a port');
  return address.port;
}
