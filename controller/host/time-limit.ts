import type { Clock } from '#shared/clock.ts';

/** `work`, or a rejection with `late()` when it takes longer; then nobody waits for `work` any more, but it goes on. */
export async function withinTime<T>(
  work: Promise<T>,
  { clock, ms, late }: { readonly clock: Clock; readonly ms: number; readonly late: () => Error },
): Promise<T> {
  const timer = new AbortController();
  const alarm = clock.sleep(ms, timer.signal).then(() => {
    if (!timer.signal.aborted) throw late();
    return work;
  });
  try {
    return await Promise.race([work, alarm]);
  } finally {
    timer.abort();
    alarm.catch(() => undefined);
  }
}
