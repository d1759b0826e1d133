import type { Clock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import { waitTimeoutOf } from '#shared/host-config.ts';
import { KeyedQueue } from '#shared/keyed-queue.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { isNewer } from '#shared/kubernetes/reflector.ts';
import type { Logger } from '#shared/log.ts';
import { ANNOTATION, LABEL, LOCAL_HOST } from '#shared/names.ts';

import type { EventRecorder } from '../events.ts';
import type { AccountLimits } from '../host/contract.ts';
import type { Fleet } from '../host/fleet.ts';
import type { KeyPair } from '../host/keys.ts';
import type { Metrics } from '../metrics.ts';
import type { Changes, Pool } from '../pool/pool.ts';
import { decide, holdsAnything, type ConfigState, type Decision, type RunMemory } from './decide.ts';
import { Reporter } from './reporter.ts';
import { fieldsOf, isOfInterest, newRun, orderOf, platformOf, writtenTimeMs, type Run } from './run.ts';
import { SecretWriter } from './secrets.ts';
import { Steps } from './steps.ts';
import { assignedHostOf, type TaskRunView } from './view.ts';
import { TaskRunWriter } from './writer.ts';

/** More steps than any TaskRun takes in one go: a decision that repeats itself must not spin. */
const MAX_STEPS = 12;

export interface ReconcilerOptions {
  client: Pick<KubeClient, 'get' | 'create' | 'patch' | 'delete'>;
  pool: Pool;
  fleet: Pick<Fleet, 'createAccount' | 'removeAccount' | 'owe' | 'knows' | 'problemOf'>;
  events: Pick<EventRecorder, 'record'>;
  metrics: Metrics;
  configState: () => ConfigState;
  /** All TaskRuns are watched, not only those that carry our label. */
  watchesAll: boolean;
  letGoAfterMs: number;
  limits: AccountLimits;
  generateKeyPair: () => Promise<KeyPair>;
  clock: Clock;
  log: Logger;
}

/** Leads each TaskRun from its creation to the point where nothing of it is left. */
export class TaskRunReconciler {
  readonly #options: ReconcilerOptions;
  readonly #runs = new Map<string, Run>();
  readonly #queue: KeyedQueue;
  readonly #writer: TaskRunWriter;
  readonly #secrets: SecretWriter;
  readonly #steps: Steps;
  #isStopping = false;

  constructor(options: ReconcilerOptions) {
    const { client, clock, log, events, metrics } = options;
    this.#options = options;
    this.#writer = new TaskRunWriter({ client, clock });
    const reporter = new Reporter({ events, log });
    this.#secrets = new SecretWriter({ client, reporter });
    this.#steps = new Steps({
      ...options,
      writer: this.#writer,
      secrets: this.#secrets,
      reporter,
      onChanges: (changes) => this.applyChanges(changes),
      isStopping: () => this.#isStopping,
    });
    this.#queue = new KeyedQueue({
      work: (uid) => this.#work(uid),
      onError: (uid, error, retryInMs) => {
        const run = this.#runs.get(uid);
        const fields = { ...(run && fieldsOf(run)), err: error, retryInMs: Math.round(retryInMs) };
        log.warn(fields, `will be tried again: ${messageOf(error)}`);
      },
      onDone: (seconds) => metrics.reconcileSeconds.observe(seconds),
      clock,
    });
  }

  get queueDepth(): number {
    return this.#queue.running;
  }

  /** Takes over what an earlier process left: slots first, then who waits, in the order in which they came. */
  restore(views: Iterable<TaskRunView>): void {
    const runs: Run[] = [];
    for (const view of views) {
      if (!isOfInterest(view)) continue;
      const run = newRun(view);
      runs.push(run);
      this.#runs.set(view.uid, run);
      if (view.hasFinalizer) this.#restoreOne(run);
    }
    runs.sort((a, b) => orderOf(a) - orderOf(b));
    for (const run of runs) this.#queue.add(run.view.uid);
  }

  /** A TaskRun that was seen, new or changed. */
  offer(view: TaskRunView): void {
    const run = this.#runs.get(view.uid);
    if (run === undefined) {
      if (!isOfInterest(view)) return;
      this.#runs.set(view.uid, newRun(view));
    } else {
      run.lost = false;
      if (!isNewer(view.resourceVersion, run.view.resourceVersion)) return;
      run.view = view;
    }
    this.#queue.add(view.uid);
  }

  /** A TaskRun that the watch does not see any more. */
  lose(view: TaskRunView): void {
    const run = this.#runs.get(view.uid);
    if (run === undefined) return;
    if (this.#options.watchesAll) run.gone = true;
    else run.lost = true;
    this.#queue.add(view.uid);
  }

  /** Slots changed hands in the pool. */
  applyChanges(changes: Changes): void {
    for (const { uid } of changes.grants) this.#queue.add(uid);
    for (const uid of changes.stranded) this.#queue.add(uid);
  }

  /** Looks again at all TaskRuns: the host list has changed. */
  reconsiderAll(): void {
    for (const uid of this.#runs.keys()) this.#queue.add(uid);
  }

  /** Looks again at the TaskRuns on a host: it can be reached again. */
  reconsiderHost(host: string): void {
    for (const uid of this.#options.pool.holdersOf(host)) this.#queue.add(uid);
  }

  /** Tells those who wait, where a host of theirs went out. */
  explainWaiting(platform: string): void {
    for (const uid of this.#options.pool.waitingFor(platform)) {
      const run = this.#runs.get(uid);
      if (run !== undefined) this.#steps.explainWaiting(run);
    }
  }

  stop(): Promise<void> {
    this.#isStopping = true;
    return this.#queue.stop();
  }

  #restoreOne(run: Run): void {
    const { pool, fleet } = this.#options;
    const { view } = run;
    const host = assignedHostOf(view);
    if (host !== undefined || view.annotations[ANNOTATION.error] !== undefined) run.secret = 'unknown';
    if (view.annotations[ANNOTATION.foreignSecret] !== undefined) run.secret = 'foreign';
    run.searchStartMs = writtenTimeMs(view, ANNOTATION.allocationStartTime);
    if (host === undefined || host === LOCAL_HOST || !fleet.knows(host)) return;
    pool.restore(view.uid, host);
    run.mayHaveAccount = true;
    run.slotAtMs = run.assignedAtMs = writtenTimeMs(view, ANNOTATION.buildStartTime);
  }

  async #work(uid: string): Promise<void> {
    const run = this.#runs.get(uid);
    if (run === undefined) return;
    if (run.lost) await this.#writer.refresh(run);
    for (let step = 0; step < MAX_STEPS; step++) {
      // The hosts' connections are closed next: that is no failure of theirs, and the next leader goes on from what is written.
      if (this.#isStopping) return;
      const decision = this.#decide(run);
      this.#options.log.debug({ ...fieldsOf(run), ...decision }, 'decided');
      if (decision.action === 'none') {
        this.#rest(run);
        return;
      }
      await this.#act(run, decision);
    }
    throw new Error(`decided ${MAX_STEPS} times in a row without coming to rest`);
  }

  #decide(run: Run): Decision {
    const { configState, clock } = this.#options;
    const memory = this.#memoryOf(run);
    if (run.gone) return { action: holdsAnything(memory) ? 'release' : 'none', reason: 'it is gone' };
    return decide({ view: run.view, memory, configState: configState(), nowMs: clock.now() });
  }

  #memoryOf({ view, searchStartMs, secret, prepared }: Run): RunMemory {
    const { pool } = this.#options;
    const host = pool.hostOf(view.uid);
    return { host, waiting: pool.isWaiting(view.uid), searchStartMs, secret, prepared: prepared?.content };
  }

  #act(run: Run, decision: Exclude<Decision, { action: 'none' }>): Promise<unknown> {
    switch (decision.action) {
      case 'unmark':
        return this.#writer.unmark(run);
      case 'release':
        return this.#steps.release(run);
      case 'look':
        return this.#secrets.look(run);
      case 'refuse':
        return this.#steps.refuse(run, decision.message);
      case 'run-locally':
        return this.#steps.runLocally(run);
      case 'allocate':
        return this.#steps.allocate(run, decision.platform);
      case 'assign':
        return this.#steps.assign(run, decision.host);
      case 'provision':
        return this.#steps.provision(run, decision.host);
      case 'withdraw':
        return this.#steps.withdraw(run, decision.host);
    }
  }

  /** The watch would not tell that it is gone; the scan brings it back. */
  #isOutOfSight({ view, secret }: Run): boolean {
    const isWatched = this.#options.watchesAll || view.labels[LABEL.targetPlatform] !== undefined;
    return !isWatched && secret === 'absent';
  }

  /** Nothing is to be done now: forget the TaskRun, or come back when it has waited as long as it may. */
  #rest(run: Run): void {
    const { pool, clock, configState } = this.#options;
    const { uid } = run.view;
    const isOver = run.gone || !isOfInterest(run.view) || this.#isOutOfSight(run);
    if (isOver && !holdsAnything(this.#memoryOf(run))) {
      this.#runs.delete(uid);
      return;
    }
    const state = configState();
    const timeoutMs = 'config' in state ? waitTimeoutOf(state.config, platformOf(run.view)) : undefined;
    if (timeoutMs === undefined || run.searchStartMs === undefined || !pool.isWaiting(uid)) return;
    this.#queue.addAfter(uid, Math.max(0, run.searchStartMs + timeoutMs - clock.now()) + 1);
  }
}
