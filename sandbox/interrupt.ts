import { AppError } from '#shared/errors.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** What a shell makes of a process that SIGINT ended. */
export const INTERRUPTED_EXIT_CODE = 130;

/** Aborted at the first signal to end; a second one ends the process at once, and what is tied to it goes with it. */
export function interruption(): AbortSignal {
  const controller = new AbortController();
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit(INTERRUPTED_EXIT_CODE);
      controller.abort(new AppError('interrupted', 'interrupted'));
    });
  }
  return controller.signal;
}

/** Resolves when the signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/**
 * The result of `work`, or the signal's reason as soon as it is aborted: `work` then goes on for nobody.
 *
 * @throws what `work` throws, or the reason
 */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await work;
  const stop = aborted(signal).then((): never => {
    throw signal.reason;
  });
  return await Promise.race([work, stop]);
}
