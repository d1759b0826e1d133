import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '#shared/errors.ts';

/** Nothing says that the parent was still there when setpriv asked for the signal, so the shell looks before it goes on. */
const GO_ON_IF_PARENT_LIVES = '[ "$PPID" = "$0" ] || exit 1; exec "$@"';

/**
 * `spawn` for a child that cannot outlive this process, however this process ends, and that the terminal's Ctrl-C does not
 * reach: it has a session of its own, so `-pid` is its process group.
 *
 * On Linux the kernel kills it when its parent goes (prctl(2), PR_SET_PDEATHSIG). The "parent" there is the thread that
 * spawned it. Elsewhere it is killed when this process exits; a `kill -9` of this process leaves it behind.
 */
export function spawnTied(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  if (process.platform === 'linux') {
    const tie = ['--pdeathsig', 'KILL', '--', '/bin/sh', '-c', GO_ON_IF_PARENT_LIVES, String(process.pid)];
    return spawn('setpriv', [...tie, command, ...args], { ...options, detached: true });
  }
  const child = spawn(command, args, { ...options, detached: true });
  const onExit = (): void => signalGroup(child.pid, 'SIGKILL');
  process.once('exit', onExit);
  child.once('exit', () => process.off('exit', onExit));
  return child;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A running program that serves until it is stopped. */
export interface Service {
  readonly name: string;
  readonly pid: number;
  readonly logPath: string;
  /** Resolves when the process has ended, for whatever reason. Never rejects. */
  readonly exited: Promise<Exit>;
  /** Undefined while it runs. */
  readonly exit: Exit | undefined;
  /** SIGTERM, then SIGKILL for the whole process group after `graceMs`. Returns when it has ended; may be called again. */
  stop(graceMs?: number): Promise<void>;
  /** SIGKILL for the whole process group. Returns when it has ended. */
  kill(): Promise<void>;
}

export interface ServiceOptions {
  /** What to call it in messages. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Gets standard output and standard error, appended. */
  readonly logPath: string;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
}

const DEFAULT_GRACE_MS = 10_000;

/**
 * A program that is missing or may not be run shows as an exit with code 127 or 126, and in the log.
 *
 * @throws AppError `cannot-start` where this machine cannot start any.
 */
export async function startService({ name, command, args, logPath, ...rest }: ServiceOptions): Promise<Service> {
  const log = await open(logPath, 'a', 0o600);
  try {
    const child = spawnTied(command, args, { ...rest, stdio: ['ignore', log.fd, log.fd] });
    const pid = await new Promise<number>((resolve, reject) => {
      child.once('spawn', () => resolve(child.pid ?? 0));
      child.once('error', (cause) => {
        reject(new AppError('cannot-start', `cannot start ${name}: ${cause.message}`, { cause }));
      });
    });
    return serviceOf(child, { name, pid, logPath });
  } finally {
    await log.close();
  }
}

function serviceOf(
  child: ChildProcess,
  { name, pid, logPath }: { name: string; pid: number; logPath: string },
): Service {
  let exit: Exit | undefined;
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => {
      exit = { code, signal };
      resolve(exit);
    });
  });
  const kill = async (): Promise<void> => {
    // Only while the leader is not reaped: until then nobody else can be given its number.
    if (exit === undefined) signalGroup(pid, 'SIGKILL');
    await exited;
  };
  const stop = async (graceMs = DEFAULT_GRACE_MS): Promise<void> => {
    child.kill('SIGTERM');
    const timer = new AbortController();
    await Promise.race([exited, sleep(graceMs, undefined, { signal: timer.signal }).catch(() => undefined)]);
    timer.abort();
    await kill();
  };
  return {
    name,
    pid,
    logPath,
    exited,
    get exit() {
      return exit;
    },
    stop,
    kill,
  };
}

export interface ReadyOptions {
  /** Asked again and again until it says true; an exception counts as "not yet". */
  readonly probe: () => Promise<boolean>;
  readonly timeoutMs: number;
  readonly pollMs?: number;
}

/** @throws AppError `not-ready` when the service ends or the time is up; the message quotes the end of its log. */
export async function waitUntilReady(service: Service, { probe, timeoutMs, pollMs = 50 }: ReadyOptions): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await probe().catch(() => false))) {
    if (service.exit !== undefined) {
      const { code, signal } = service.exit;
      throw await notReady(service, `ended with ${signal ?? `exit code ${code}`}`);
    }
    if (performance.now() > deadline) throw await notReady(service, `was not ready after ${timeoutMs / 1000} s`);
    await sleep(pollMs);
  }
}

async function notReady(service: Service, what: string): Promise<AppError> {
  const log = await readFile(service.logPath, 'utf8').catch(() => '');
  const end = log.trimEnd().split('\n').slice(-3).join(' | ').slice(-600);
  return new AppError('not-ready', `${service.name} ${what}; its log ends: ${end}`);
}

function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // It has ended already.
  }
}
