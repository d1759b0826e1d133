const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** How long a start that was interrupted may go on, so that what it has started can be stopped in order. */
const GRACE_MS = 8000;

const INTERRUPTED = 130;

/** Resolves at the first signal to end; a second one ends the process at once. What is tied to the process goes with it. */
export function interruption(): Promise<void> {
  return new Promise((resolve) => {
    let interrupted = false;
    for (const signal of SIGNALS) {
      process.on(signal, () => {
        if (interrupted) process.exit(INTERRUPTED);
        interrupted = true;
        resolve();
      });
    }
  });
}

/**
 * Waits for `start`. Where it is interrupted meanwhile, it stops what has been started and ends the process; a start that takes long
 * (the first build of a program, say) is not waited for.
 */
export async function unlessInterrupted<T extends { stop(): Promise<void> }>(
  start: Promise<T>,
  interrupted: Promise<void>,
): Promise<T> {
  const result = await Promise.race([start, interrupted]);
  if (result !== undefined) return result;
  setTimeout(() => process.exit(INTERRUPTED), GRACE_MS).unref();
  await start.then(
    (started) => started.stop(),
    () => undefined,
  );
  process.exit(INTERRUPTED);
}
