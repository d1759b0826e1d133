const FIRST_MS = 500;
const MAX_MS = 122_000;

/**
 * How long the kubelet waits before it tries again to mount a volume: 0.5 s, then twice as long each time, up to 2 min 2 s
 * (kubernetes, `pkg/util/goroutinemap/exponentialbackoff`).
 */
export class MountRetry {
  #delayMs = 0;
  #notBeforeMs = 0;

  /** When to look again unless the Pod changes before. */
  get notBeforeMs(): number {
    return this.#notBeforeMs;
  }

  /** A look found something missing. One that came early, because the Pod changed, leaves the back-off as it is. */
  missed(nowMs: number): void {
    if (nowMs < this.#notBeforeMs) return;
    this.#delayMs = this.#delayMs === 0 ? FIRST_MS : Math.min(MAX_MS, 2 * this.#delayMs);
    this.#notBeforeMs = nowMs + this.#delayMs;
  }
}
