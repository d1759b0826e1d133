import { messageOf } from './errors.ts';

/**
 * Runs a process: `start` builds and starts everything and gives back what stops it. SIGTERM and SIGINT stop it cleanly (exit 0);
 * a second signal ends it at once. Where `start` fails, one line on standard error and exit 1.
 */
export async function runProcess(start: () => Promise<{ stop(): Promise<void> }>): Promise<void> {
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
    await signalled;
    await running.stop();
    process.exit(0);
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`);
    process.exit(1);
  }
}
