/**
 * Who may have a channel on one connection, first come, first served. A server says nowhere how many it allows: the bound
 * starts at `limit` and is lowered when it refuses one.
 */
export class ChannelSlots {
  #limit: number;
  #taken = 0;
  #closed = false;
  /** Those that had a slot already come first. */
  readonly #refused: ((isMine: boolean) => void)[] = [];
  readonly #waiting: ((isMine: boolean) => void)[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  get taken(): number {
    return this.#taken;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Resolves with true when a slot is the caller's, to be given back; with false when there will be none. */
  async take(): Promise<boolean> {
    if (this.#closed) return false;
    if (this.#taken < this.#limit) {
      this.#taken++;
      return true;
    }
    return await new Promise((resolve) => this.#waiting.push(resolve));
  }

  giveBack(): void {
    this.#taken--;
    this.#serve();
  }

  /**
   * The server refused a channel to the holder of a slot: there are fewer than we thought. The caller waits before
   * all that never had one, and gets what {@link take} gives; false at once where it was the only one.
   */
  async retakeAfterRefusal(): Promise<boolean> {
    this.#taken--;
    if (this.#closed || this.#taken === 0) return false;
    this.#limit = this.#taken;
    return await new Promise((resolve) => this.#refused.push(resolve));
  }

  /** Nobody gets a slot any more; those that have one keep it. */
  close(): void {
    this.#closed = true;
    for (const resolve of [...this.#refused.splice(0), ...this.#waiting.splice(0)]) resolve(false);
  }

  #serve(): void {
    while (this.#taken < this.#limit) {
      const next = this.#refused.shift() ?? this.#waiting.shift();
      if (next === undefined) return;
      this.#taken++;
      next(true);
    }
  }
}
