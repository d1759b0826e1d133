import type { Clock } from '#shared/clock.ts';
import type { ContainerOutcome } from './container.ts';
import type { ContainerStatus, Pod, PodStatus } from './pod-types.ts';
import { formatTerminationMessage } from './entrypoint.ts';
import { time } from './task-run-status.ts';
import type { ContainerState } from './tekton-types.ts';

/** Keeps account of a Pod's containers and writes its status from it. */
export class PodProgress {
  readonly #pod: Pod;
  readonly #clock: Clock;
  readonly #states = new Map<string, ContainerState>();
  #startTime: string | undefined;
  #failure: string | undefined;

  constructor(pod: Pod, clock: Clock) {
    this.#pod = pod;
    this.#clock = clock;
  }

  /** As with Tekton all containers run from the start; the later ones wait for those before them. */
  started(container: string): void {
    this.#startTime ??= this.#now();
    this.#states.set(container, { running: { startedAt: this.#now() } });
  }

  ended(container: string, { code, message }: ContainerOutcome): void {
    this.#states.set(container, this.#terminated(container, code, message));
  }

  /** The Pod ends without its containers' doing. */
  fail(message: string): void {
    if (!this.#isComplete()) this.#failure = message;
  }

  status(): PodStatus {
    const failed = this.#failure !== undefined || [...this.#states.values()].some(isFailed);
    const phase = failed ? 'Failed' : this.#isComplete() ? 'Succeeded' : 'Running';
    return {
      phase,
      ...(this.#failure !== undefined && { message: this.#failure }),
      startTime: this.#startTime ?? this.#now(),
      conditions: [
        { type: 'Initialized', status: 'True' },
        { type: 'Ready', status: phase === 'Running' ? 'True' : 'False' },
        { type: 'ContainersReady', status: phase === 'Running' ? 'True' : 'False' },
        { type: 'PodScheduled', status: 'True' },
      ],
      ...(this.#startTime !== undefined && { containerStatuses: this.#containerStatuses(failed) }),
    };
  }

  #containerStatuses(failed: boolean): ContainerStatus[] {
    const firstStart = this.#startTime ?? this.#now();
    return this.#pod.spec.containers.map(({ name, image }) => {
      const known = this.#states.get(name) ?? { running: { startedAt: firstStart } };
      const state = failed && known.terminated === undefined ? this.#cutShort(name) : known;
      return { name, image, imageID: '', ready: state.running !== undefined, restartCount: 0, state };
    });
  }

  /** Those after a step that failed are skipped; one that ran when the Pod was ended was killed. */
  #cutShort(name: string): ContainerState {
    if (this.#states.has(name)) return this.#terminated(name, 137, '');
    return this.#terminated(name, 1, formatTerminationMessage({ results: new Map(), reason: 'Skipped' }));
  }

  #terminated(name: string, exitCode: number, message: string): ContainerState {
    const startedAt = this.#states.get(name)?.running?.startedAt ?? this.#now();
    return {
      terminated: {
        exitCode,
        reason: exitCode === 0 ? 'Completed' : 'Error',
        startedAt,
        finishedAt: this.#now(),
        ...(message !== '' && { message }),
      },
    };
  }

  #isComplete(): boolean {
    return this.#pod.spec.containers.every(({ name }) => this.#states.get(name)?.terminated !== undefined);
  }

  #now(): string {
    return time(this.#clock.now());
  }
}

function isFailed({ terminated }: ContainerState): boolean {
  return terminated !== undefined && terminated.exitCode !== 0;
}
