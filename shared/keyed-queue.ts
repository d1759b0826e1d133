import { backoffMs } from './backoff.ts';
import type { Clock } from './clock.ts';

const RETRY = { baseMs: 200, maxMs: 30_000 };

export interface KeyedQueueOptions {
  /** Does the work for a key. Where it rejects it is called again after a backoff. */
  work: (key: string) => Promise<void>;
  onError: (key: string, error: unknown, retryInMs: number) => void;
  onDone?: (seconds: number) => void;
  clock: Clock;
}

interface Entry {
  running: boolean;
  dirty: boolean;
  failures: number;
  /** Ends the wait for a retry or for a set time. */
  timer: AbortController | undefined;
}

/**
 * Work by key: one piece at a time for each key, keys side by side without a bound, since most of the time is spent waiting for a host
 * or the API server, and a slow one must not hold up the others.
 */
export class KeyedQueue {
  readonly #options: KeyedQueueOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #stop = new AbortController();
  #running = 0;
  #idle = Promise.withResolvers<void>();

  constructor(options: KeyedQueueOptions) {
    this.#options = options;
  }

  /** Keys that are worked on now. */
  get running(): number {
    return this.#running;
  }

  /** Has the work for `key` done soon; once more if it is being done now. */
  add(key: string): void {
    if (this.#stop.signal.aborted) return;
    const entry = this.#entry(key);
    entry.timer?.abort();
    entry.timer = undefined;
    if (entry.running) entry.dirty = true;
    else void this.#run(key, entry);
  }

  /** The same, after `ms`, unless it is added before. */
  addAfter(key: string, ms: number): void {
    if (this.#stop.signal.aborted) return;
    const entry = this.#entry(key);
    entry.timer?.abort();
    const timer = new AbortController();
    entry.timer = timer;
    const { clock } = this.#options;
    void clock.sleep(ms, AbortSignal.any([timer.signal, this.#stop.signal])).then(() => {
      if (!timer.signal.aborted) this.add(key);
    });
  }

  /** Takes no more work; resolves when what is being done is done. */
  async stop(): Promise<void> {
    this.#stop.abort();
    if (this.#running > 0) await this.#idle.promise;
  }

  #entry(key: string): Entry {
    let entry = this.#entries.get(key);
    if (entry === undefined)
      this.#entries.set(key, (entry = { running: false, dirty: false, failures: 0, timer: undefined }));
    return entry;
  }

  async #run(key: string, entry: Entry): Promise<void> {
    const { work, onError, onDone } = this.#options;
    entry.running = true;
    this.#running++;
    do {
      entry.dirty = false;
      const startMs = performance.now();
      try {
        await work(key);
        entry.failures = 0;
      } catch (error) {
        entry.failures++;
        const retryInMs = backoffMs(entry.failures, RETRY);
        onError(key, error, retryInMs);
        if (!entry.dirty) this.addAfter(key, retryInMs);
      }
      onDone?.((performance.now() - startMs) / 1000);
    } while (entry.dirty && !this.#stop.signal.aborted);
    entry.running = false;
    this.#running--;
    if (entry.timer === undefined && entry.failures === 0) this.#entries.delete(key);
    if (this.#running === 0 && this.#stop.signal.aborted) this.#idle.resolve();
  }
}
