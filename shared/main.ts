import { messageOf } from './errors.ts';

export interface RunningProcess {
  stop(): Promise<void>;
  /** Rejects when the process cannot go on. */
  readonly failed?: Promise<unknown>;
}

/**
 * Runs a process: `start` builds and starts everything and gives back what stops it. SIGTERM and SIGINT stop it cleanly (exit 0);
 * a second signal ends it at once. Where `start` fails, or `failed` rejects, one line on standard error and exit 1.
 */
export async function runProcess(start: () => Promise<RunningProcess>): Promise<void> {
  let stopping = false;
  const signalled = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (stopping) process.exit(130);
        stopping = true;
        resolve();
      });
    }
  });
  try {
    const running = await Promise.race([start(), signalled]);
    if (running === undefined) process.exit(0);
    const failed = new Promise<never>((_, reject) => {
      running.failed?.catch(reject);
    });
    await Promise.race([signalled, failed]);
    await running.stop();
    process.exit(0);
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`);
    process.exit(1);
  }
}
