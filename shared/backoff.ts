/** Exponential backoff with jitter: the delays grow from `baseMs` by a factor of two to `maxMs`, each cut by up to half. */
export interface BackoffOptions {
  baseMs: number;
  maxMs: number;
  /** Uniform in [0, 1); `Math.random` where none is given. */
  random?: () => number;
}

/** The delay in ms before try number `attempt`, which counts from 1. */
export function backoffMs(attempt: number, { baseMs, maxMs, random = Math.random }: BackoffOptions): number {
  const ceiling = Math.min(maxMs, baseMs * 2 ** Math.min(attempt - 1, 30));
  return ceiling * (0.5 + random() / 2);
}
