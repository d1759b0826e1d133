/** The time, as something that is handed over, so that tests can step it. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Resolves after `ms`, at most 24 days, or at once when `signal` is aborted; it never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface MonotonicClock extends Clock {
  /** Milliseconds since some moment of this machine's: nobody can set it. */
  monotonic(): number;
}

/** Node.js makes 1 ms of anything longer: 2^31 - 1. */
const MAX_TIMER_MS = 2_147_483_647;

export const systemClock: MonotonicClock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const done = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, Math.min(ms, MAX_TIMER_MS));
      signal?.addEventListener('abort', done, { once: true });
    }),
};
