import type { Clock } from '#shared/clock.ts';

const RETRY_MS = 1000;

export interface KeyedQueueOptions {
  /** Brings one object where it should be; gives when it wants to be called again (ms since 1970), if it does. */
  readonly work: (key: string) => Promise<number | undefined>;
  /** The work is tried again a second later. */
  readonly onError: (key: string, error: unknown) => void;
  readonly clock: Clock;
}

/** Runs the work for a key once at a time, and once more where something changed meanwhile. */
export class KeyedQueue {
  readonly #options: KeyedQueueOptions;
  readonly #stop = new AbortController();
  readonly #changed = new Set<string>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #timers = new Map<string, AbortController>();

  constructor(options: KeyedQueueOptions) {
    this.#options = options;
  }

  add(key: string): void {
    if (this.#stop.signal.aborted) return;
    this.#changed.add(key);
    if (!this.#running.has(key)) this.#running.set(key, this.#run(key));
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    for (const timer of this.#timers.values()) timer.abort();
    await Promise.all(this.#running.values());
  }

  async #run(key: string): Promise<void> {
    const { work, onError, clock } = this.#options;
    let againAtMs: number | undefined;
    while (this.#changed.delete(key) && !this.#stop.signal.aborted) {
      try {
        againAtMs = await work(key);
      } catch (error) {
        onError(key, error);
        againAtMs = clock.now() + RETRY_MS;
      }
    }
    this.#running.delete(key);
    this.#wakeAt(key, againAtMs);
  }

  #wakeAt(key: string, atMs: number | undefined): void {
    this.#timers.get(key)?.abort();
    this.#timers.delete(key);
    if (atMs === undefined || this.#stop.signal.aborted) return;
    const timer = new AbortController();
    this.#timers.set(key, timer);
    const { clock } = this.#options;
    void clock.sleep(Math.max(0, atMs - clock.now()), timer.signal).then(() => {
      if (!timer.signal.aborted) this.add(key);
    });
  }
}
