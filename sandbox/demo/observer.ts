import type { Clock } from '#shared/clock.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import type { Logger } from '#shared/log.ts';
import { LABEL, secretName } from '#shared/names.ts';
import type { Host } from '../hosts/host.ts';
import { ObjectStore } from '../task-runner/object-store.ts';
import type { TaskRun } from '../task-runner/tekton-types.ts';
import { type Observed, takeIn, unseen } from './observed.ts';
import { type Job, NAMESPACE } from './workload.ts';

export interface ObserverOptions {
  readonly client: KubeClient;
  readonly hosts: readonly Host[];
  /** By the host's name. */
  readonly slots: ReadonlyMap<string, number>;
  readonly jobs: readonly Job[];
  /** Gets one line for each thing that happens. */
  readonly onEvent: (line: string) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

const SAMPLE_EVERY_MS = 200;

/** Watches TaskRuns, Pods and Secrets, and looks into the hosts five times a second. */
export class Observer {
  readonly taskRuns: ReadonlyMap<string, Observed>;
  /** Accounts on each host, when it was last looked into. */
  readonly accounts = new Map<string, readonly string[]>();
  /** How often a host was seen with more accounts, or more TaskRuns that name it, than it has slots. */
  overCommitted = 0;
  samples = 0;
  readonly #options: ObserverOptions;
  readonly #stop = new AbortController();
  readonly #store: ObjectStore<TaskRun>;
  readonly #others: ObjectStore<KubeObject>[];
  #sampling: Promise<void> = Promise.resolve();

  constructor(options: ObserverOptions) {
    this.#options = options;
    const { client, clock, log, jobs } = options;
    const taskRuns = new Map(jobs.map((job) => [job.name, unseen(job)]));
    this.taskRuns = taskRuns;
    const taskRunOfSecret = new Map(jobs.map(({ name }) => [secretName(name), name]));
    const parts = { client, clock, log, onDelete: () => undefined };
    this.#store = new ObjectStore<TaskRun>({
      ...parts,
      path: PATH.taskRuns(NAMESPACE),
      onSet: (taskRun) => this.#taskRunChanged(taskRun),
    });
    this.#others = [
      new ObjectStore<KubeObject>({
        ...parts,
        path: PATH.pods(NAMESPACE),
        onSet: ({ metadata }) => {
          const owner = taskRuns.get(metadata.ownerReferences?.[0]?.name ?? '');
          if (owner !== undefined) owner.podMs ??= clock.now();
        },
      }),
      new ObjectStore<KubeObject>({
        ...parts,
        path: PATH.secrets(NAMESPACE),
        onSet: ({ metadata }) => {
          const owner = taskRuns.get(taskRunOfSecret.get(metadata.name) ?? '');
          if (owner !== undefined) owner.secretMs ??= clock.now();
        },
      }),
    ];
  }

  async start(): Promise<void> {
    await Promise.all([this.#store, ...this.#others].map((store) => store.start()));
    this.#sampling = this.#sample();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#sampling;
    await Promise.all([this.#store, ...this.#others].map((store) => store.stop()));
  }

  /** Every TaskRun has ended, and nothing of ours is on it any more. */
  get isOver(): boolean {
    return [...this.taskRuns.values()].every(({ stage }) => stage === 'released');
  }

  #taskRunChanged(taskRun: TaskRun): void {
    const { onEvent, slots, clock } = this.#options;
    const observed = this.taskRuns.get(taskRun.metadata.name);
    if (observed === undefined) return;
    const before = { ...observed };
    takeIn(observed, taskRun, clock.now());
    const line = eventOf(before, observed);
    if (line !== undefined) onEvent(line);
    const host = taskRun.metadata.labels?.[LABEL.assignedHost];
    if (host !== undefined && before.host !== host) this.#judge(this.#assignedTo(host), slots.get(host));
  }

  #assignedTo(host: string): number {
    return this.#store.count(({ metadata }) => metadata.labels?.[LABEL.assignedHost] === host);
  }

  #judge(used: number, slots = 0): void {
    if (used > slots) this.overCommitted++;
  }

  async #sample(): Promise<void> {
    const { hosts, slots, clock } = this.#options;
    while (!this.#stop.signal.aborted) {
      await Promise.all(
        hosts.map(async (host) => {
          const accounts = await host.accounts();
          this.accounts.set(host.name, accounts);
          this.#judge(accounts.length, slots.get(host.name));
        }),
      );
      this.samples++;
      await clock.sleep(SAMPLE_EVERY_MS, this.#stop.signal);
    }
  }
}

function eventOf(before: Observed, after: Observed): string | undefined {
  const { name, platform } = after.job;
  if (after.waited && !before.waited) return `${name} waits for a slot on ${platform}`;
  if (after.host !== before.host && after.host !== undefined) return `${name} gets ${after.host}`;
  if (after.endedMs === undefined || before.endedMs !== undefined) return undefined;
  if (after.condition?.status === 'True')
    return `${name} succeeded${after.report === undefined ? '' : `: ${after.report}`}`;
  return `${name} failed: ${after.condition?.message ?? ''}`;
}
