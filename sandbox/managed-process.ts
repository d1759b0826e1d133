import { readFile } from 'node:fs/promises';
import { AppError } from '#shared/errors.ts';
import { freePort } from './control-plane/free-port.ts';
import { type Service, startService, waitUntilReady } from './process.ts';

export interface ManagedProcessOptions {
  /** What to call it in messages. */
  readonly name: string;
  /** Path of its `main.ts`. */
  readonly main: string;
  /** What runs `main`. Default: this process's own Node.js. */
  readonly launcher?: readonly [command: string, ...args: string[]];
  /** Besides the ports for metrics and health. */
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Gets what it writes, over all its restarts. */
  readonly logPath: string;
  readonly readyWithinMs?: number;
}

/** One of the product's processes, which a test may treat badly. */
export interface ManagedProcess {
  readonly name: string;
  readonly logPath: string;
  readonly metricsPort: number;
  readonly healthPort: number;
  /** 0 while it does not run. */
  readonly pid: number;
  /** Starts it, with these arguments behind the usual ones; returns when it is ready. Nothing happens where it runs. */
  start(extraArgs?: readonly string[]): Promise<void>;
  /** The same, but does not wait until it is ready: a second replica never is while it follows. */
  launch(extraArgs?: readonly string[]): Promise<void>;
  /** SIGTERM, and SIGKILL when it takes too long. Returns its exit code; null where a signal ended it. */
  stop(): Promise<number | null>;
  /** SIGKILL. */
  kill(): Promise<void>;
  restart(): Promise<void>;
  /** SIGSTOP: it is there, but does nothing. */
  pause(): void;
  resume(): void;
  /** All that it wrote. */
  log(): Promise<string>;
  /** What `/metrics` says. */
  metrics(): Promise<string>;
}

const READY_WITHIN_MS = 30_000;

/** Makes the handle; nothing runs yet. */
export async function createManagedProcess(options: ManagedProcessOptions): Promise<ManagedProcess> {
  const { name, main, args, env, logPath, readyWithinMs = READY_WITHIN_MS } = options;
  const [command, ...launcherArgs] = options.launcher ?? [process.execPath];
  const metricsPort = await freePort();
  const healthPort = await freePort();
  let service: Service | undefined;

  const launch = async (extraArgs: readonly string[] = []): Promise<void> => {
    if (service !== undefined && service.exit === undefined) return;
    const ports = ['--metrics-port', String(metricsPort), '--health-port', String(healthPort)];
    service = await startService({
      name,
      command,
      args: [...launcherArgs, main, ...args, ...ports, ...extraArgs],
      env,
      logPath,
    });
  };
  const start = async (extraArgs?: readonly string[]): Promise<void> => {
    await launch(extraArgs);
    if (service === undefined) return;
    const probe = async (): Promise<boolean> => (await fetch(`http://127.0.0.1:${healthPort}/readyz`)).ok;
    await waitUntilReady(service, { probe, timeoutMs: readyWithinMs });
  };
  const stop = async (): Promise<number | null> => {
    signal('SIGCONT');
    await service?.stop();
    return service?.exit?.code ?? null;
  };
  const signal = (what: NodeJS.Signals): void => {
    if (service !== undefined && service.exit === undefined) process.kill(service.pid, what);
  };
  return {
    name,
    logPath,
    metricsPort,
    healthPort,
    get pid() {
      return service?.exit === undefined ? (service?.pid ?? 0) : 0;
    },
    start,
    launch,
    stop,
    kill: async () => await service?.kill(),
    restart: async () => {
      await stop();
      await start();
    },
    pause: () => signal('SIGSTOP'),
    resume: () => signal('SIGCONT'),
    log: async () => await readFile(logPath, 'utf8').catch(() => ''),
    metrics: async () => {
      const response = await fetch(`http://127.0.0.1:${metricsPort}/metrics`);
      if (!response.ok) throw new AppError('no-metrics', `${name} answers ${response.status} to /metrics`);
      return await response.text();
    },
  };
}
