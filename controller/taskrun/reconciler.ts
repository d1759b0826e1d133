import type { Clock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import type { HostConfig } from '#shared/host-config.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound, isConflict, isNotFound, KubeError } from '#shared/kubernetes/errors.ts';
import type { KubeObject, Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { isNewer } from '#shared/kubernetes/reflector.ts';
import type { Logger } from '#shared/log.ts';
import { ANNOTATION, LABEL, LOCAL_HOST, secretName } from '#shared/names.ts';
import { platformLabel } from '#shared/platform.ts';

import type { EventKind, EventRecorder } from '../events.ts';
import type { Metrics } from '../metrics.ts';
import { accountName } from '../host/account-name.ts';
import { HostError, type AccountLimits } from '../host/contract.ts';
import type { Fleet } from '../host/fleet.ts';
import { knownHosts } from '../host/known-hosts.ts';
import type { KeyPair } from '../host/keys.ts';
import type { Changes, Pool } from '../pool/pool.ts';
import { decide, type ConfigState, type Decision, type RunMemory } from './decide.ts';
import * as text from './error-text.ts';
import { KeyedQueue } from './keyed-queue.ts';
import { markPatch, unmarkPatch, type Marks } from './patch.ts';
import { buildSecret, type SecretContent } from './secret.ts';
import { assignedHostOf, failedHostsOf, viewOf, type TaskRunView } from './view.ts';

const HOUR_MS = 3_600_000;
/** The key of a TaskRun without a timeout. */
const KEY_LIFE_MS = 24 * HOUR_MS;
/** More steps than any TaskRun takes in one go: a decision that repeats itself must not spin. */
const MAX_STEPS = 12;

export interface ReconcilerOptions {
  client: KubeClient;
  pool: Pool;
  fleet: Pick<Fleet, 'createAccount' | 'removeAccount' | 'owe' | 'knows'>;
  events: Pick<EventRecorder, 'record'>;
  metrics: Metrics;
  configState: () => ConfigState;
  /** All TaskRuns are watched, not only those that carry our label. */
  watchesAll: boolean;
  /** How long removing an account is tried before the TaskRun is let go and the debt written down. */
  letGoAfterMs: number;
  limits: AccountLimits;
  generateKeyPair: () => Promise<KeyPair>;
  clock: Clock;
  log: Logger;
}

/** One TaskRun, as long as there is anything to do for it. */
interface Run {
  view: TaskRunView;
  /** It is not in the cluster any more. */
  gone: boolean;
  /** The watch lost sight of it: it is gone, or somebody took our label off. */
  lost: boolean;
  searchStartMs: number | undefined;
  slotAtMs: number | undefined;
  assignedAtMs: number | undefined;
  secret: RunMemory['secret'];
  secretUid: string | undefined;
  /** A Secret that was sent, or is about to be, with the key that the account was made with. */
  prepared: { readonly secret: Secret; mayBeThere: boolean } | undefined;
  /** There may be an account on the host that it holds a slot on. */
  mayHaveAccount: boolean;
  releaseStartMs: number | undefined;
  /** Hosts that failed for it, and why. */
  readonly failures: Map<string, string>;
}

/** Leads each TaskRun from its creation to the point where nothing of it is left (DESIGN: the life of a TaskRun). */
export class TaskRunReconciler {
  readonly #options: ReconcilerOptions;
  readonly #runs = new Map<string, Run>();
  readonly #queue: KeyedQueue;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#queue = new KeyedQueue({
      work: (uid) => this.#work(uid),
      onError: (uid, error, retryInMs) => {
        const run = this.#runs.get(uid);
        options.log.warn(
          { ...this.#fields(run), err: error, retryInMs: Math.round(retryInMs) },
          `will be tried again: ${messageOf(error)}`,
        );
      },
      onDone: (seconds) => options.metrics.reconcileSeconds.observe(seconds),
      clock: options.clock,
    });
  }

  get queueDepth(): number {
    return this.#queue.running;
  }

  /** Takes over what an earlier process left: slots first, then who waits, in the order in which they came. */
  restore(views: Iterable<TaskRunView>): void {
    const { pool, fleet } = this.#options;
    const runs: Run[] = [];
    for (const view of views) {
      if (!isOfInterest(view)) continue;
      const run = newRun(view);
      runs.push(run);
      this.#runs.set(view.uid, run);
      if (!view.hasFinalizer) continue;
      const host = assignedHostOf(view);
      if (host !== undefined || view.annotations[ANNOTATION.error] !== undefined) run.secret = 'unknown';
      if (view.annotations[ANNOTATION.foreignSecret] !== undefined) run.secret = 'foreign';
      if (host === undefined || host === LOCAL_HOST || !fleet.knows(host)) continue;
      pool.restore(view.uid, host);
      run.mayHaveAccount = true;
      run.slotAtMs = run.assignedAtMs = secondsToMs(view.annotations[ANNOTATION.buildStartTime]);
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

  stop(): Promise<void> {
    return this.#queue.stop();
  }

  async #work(uid: string): Promise<void> {
    const run = this.#runs.get(uid);
    if (run === undefined) return;
    if (run.lost) await this.#refresh(run);
    for (let step = 0; step < MAX_STEPS; step++) {
      const decision = this.#decide(run);
      if (decision.action === 'none') {
        this.#settle(run, decision.reason);
        return;
      }
      this.#options.log.debug({ ...this.#fields(run), action: decision.action, reason: decision.reason }, 'decided');
      await this.#act(run, decision);
    }
    throw new Error(`decided ${MAX_STEPS} times in a row without coming to rest`);
  }

  #decide(run: Run): Decision {
    const { pool, configState, watchesAll, clock } = this.#options;
    const { uid } = run.view;
    const host = pool.hostOf(uid);
    if (run.gone) {
      const holds = host !== undefined || pool.isWaiting(uid) || run.secret === 'present' || run.prepared !== undefined;
      return holds ? { action: 'release', reason: 'it is gone' } : { action: 'none', reason: 'it is gone' };
    }
    const memory = { host, waiting: pool.isWaiting(uid), searchStartMs: run.searchStartMs, secret: run.secret };
    return decide({ view: run.view, memory, configState: configState(), nowMs: clock.now(), watchesAll });
  }

  /** Nothing is to be done now: forget the TaskRun, or come back when it has waited long enough. */
  #settle(run: Run, reason: string): void {
    const { pool, clock } = this.#options;
    const { uid } = run.view;
    if (run.gone || !isOfInterest(run.view)) {
      this.#runs.delete(uid);
      return;
    }
    const timeoutMs = this.#waitTimeoutMs(run);
    if (pool.isWaiting(uid) && timeoutMs !== undefined && run.searchStartMs !== undefined) {
      this.#queue.addAfter(uid, Math.max(0, run.searchStartMs + timeoutMs - clock.now()) + 1);
    }
    this.#options.log.debug({ ...this.#fields(run), reason }, 'nothing to do');
  }

  #act(run: Run, decision: Exclude<Decision, { action: 'none' }>): Promise<unknown> {
    switch (decision.action) {
      case 'unmark':
        return this.#patch(run, unmarkPatch(run.view));
      case 'mark':
        return this.#mark(run, {});
      case 'release':
        return this.#release(run);
      case 'refuse':
        return this.#refuse(run, decision.message);
      case 'run-locally':
        return this.#runLocally(run);
      case 'allocate':
        return this.#allocate(run, decision.platform);
      case 'assign':
        return this.#assign(run, decision.host);
      case 'provision':
        return this.#provision(run, decision.host);
      case 'withdraw':
        return this.#withdraw(run, decision.host);
    }
  }

  async #allocate(run: Run, platform: string): Promise<void> {
    const { pool, clock, configState } = this.#options;
    const { uid } = run.view;
    run.searchStartMs ??=
      secondsToMs(run.view.hasFinalizer ? run.view.annotations[ANNOTATION.allocationStartTime] : undefined) ??
      clock.now();
    const exclude = new Set([...(run.view.hasFinalizer ? failedHostsOf(run.view) : []), ...run.failures.keys()]);
    const result = pool.request({ uid, platform, exclude });
    switch (result.kind) {
      case 'granted':
        return;
      case 'waiting':
        if (await this.#mark(run, { waiting: true }))
          this.#say(run, 'waiting', `waits for a host for ${platform}: number ${result.position} in the queue`, {
            position: result.position,
          });
        return;
      case 'no-such-platform': {
        const state = configState();
        await this.#refuse(run, text.unknownPlatform(platform, 'config' in state ? platformsOf(state.config) : []));
        return;
      }
      case 'exhausted': {
        const failures = new Map([...exclude].map((host) => [host, run.failures.get(host) ?? 'failed earlier']));
        await this.#refuse(run, text.allHostsFailed(platform, failures));
      }
    }
  }

  async #assign(run: Run, host: string): Promise<void> {
    const { clock, metrics } = this.#options;
    run.slotAtMs ??= clock.now();
    const waited = run.view.labels[LABEL.waitingForPlatform] !== undefined && run.view.hasFinalizer;
    if (!(await this.#mark(run, { host }))) return;
    run.assignedAtMs = clock.now();
    const seconds = (run.assignedAtMs - (run.searchStartMs ?? run.assignedAtMs)) / 1000;
    const platform = platformOf(run.view);
    metrics.hostAllocationTime.observe({ platform }, seconds);
    if (waited) metrics.waitTime.observe({ platform }, seconds);
    this.#say(run, 'assigned', `got a slot on host ${host}`, { host });
  }

  /** Makes the account and hands it over. Each part is done once, however often it is tried. */
  async #provision(run: Run, host: string): Promise<void> {
    const { clock, metrics } = this.#options;
    const { view } = run;
    if (run.secret === 'unknown') {
      run.secret = (await this.#isSecretThere(view)) ? 'present' : 'absent';
      return;
    }
    if (run.prepared === undefined) {
      try {
        run.mayHaveAccount = true;
        run.prepared = { secret: await this.#makeAccount(view, host), mayBeThere: false };
      } catch (error) {
        if (!(error instanceof HostError)) throw error;
        await this.#hostFailed(run, host, error);
        return;
      }
    }
    const published = await this.#publish(run, run.prepared);
    run.prepared = undefined;
    if (!published) return;
    const platform = platformOf(view);
    metrics.provisioningSuccesses.inc({ platform });
    const readyMs = clock.now() - (run.slotAtMs ?? clock.now());
    metrics.readySeconds.observe({ platform }, readyMs / 1000);
    this.#say(run, 'ready', `the account on host ${host} is ready`, { host, durationMs: Math.round(readyMs) });
    await this.#nudgePod(run);
  }

  /** A Secret of somebody else's has the name: nobody will use the account. */
  async #withdraw(run: Run, host: string): Promise<void> {
    const { pool, fleet } = this.#options;
    if (!(await this.#mark(run, { host }))) return;
    if (run.mayHaveAccount) await fleet.removeAccount(host, accountName(run.view.uid), run.view.uid);
    run.mayHaveAccount = false;
    if (await this.#mark(run, {})) this.applyChanges(pool.release(run.view.uid));
  }

  async #makeAccount(view: TaskRunView, host: string): Promise<Secret> {
    const { fleet, limits, clock, generateKeyPair } = this.#options;
    const account = accountName(view.uid);
    const { privateKey, publicKey } = await generateKeyPair();
    const expiresAtMs = clock.now() + (view.timeoutMs === undefined ? KEY_LIFE_MS : view.timeoutMs + HOUR_MS);
    const login = await fleet.createAccount(host, { account, taskRunUid: view.uid, publicKey, expiresAtMs, limits });
    return buildSecret(view, {
      kind: 'login',
      privateKey,
      host: `${account}@${login.address}`,
      userDir: login.home,
      knownHosts: knownHosts(login),
      port: login.port,
    });
  }

  async #hostFailed(run: Run, host: string, error: HostError): Promise<void> {
    const { pool, fleet, metrics, clock } = this.#options;
    const { view } = run;
    run.failures.set(host, error.message);
    metrics.provisioningFailures.inc({ platform: platformOf(view) });
    this.#say(run, 'hostFailed', `no account could be made on host ${host}: ${error.message}`, {
      host,
      code: error.code,
    });
    if (error.mayHaveActed) {
      const since = new Date(clock.now()).toISOString();
      await fleet.owe(accountName(view.uid), {
        host,
        taskRunUid: view.uid,
        namespace: view.namespace,
        taskRun: view.name,
        since,
      });
    }
    run.mayHaveAccount = false;
    run.slotAtMs = undefined;
    this.applyChanges(pool.release(view.uid));
  }

  async #refuse(run: Run, message: string): Promise<void> {
    const { pool, metrics } = this.#options;
    this.applyChanges(pool.release(run.view.uid));
    const isNew = run.view.annotations[ANNOTATION.error] !== message || !run.view.hasFinalizer;
    if (!(await this.#mark(run, { error: message }))) return;
    if (isNew) {
      metrics.hostAllocationFailures.inc({ platform: platformOf(run.view) });
      this.#say(run, 'refused', message, {});
    }
    await this.#publishSimple(run, { kind: 'error', message });
  }

  async #runLocally(run: Run): Promise<void> {
    const { pool } = this.#options;
    this.applyChanges(pool.release(run.view.uid));
    if (!(await this.#mark(run, { host: LOCAL_HOST }))) return;
    this.#say(run, 'local', 'runs in its own Pod: the platform is a local one', {});
    await this.#publishSimple(run, { kind: 'local' });
  }

  async #publishSimple(run: Run, content: SecretContent): Promise<void> {
    run.prepared ??= { secret: buildSecret(run.view, content), mayBeThere: run.secret === 'unknown' };
    const published = await this.#publish(run, run.prepared);
    run.prepared = undefined;
    if (published) await this.#nudgePod(run);
    else await this.#mark(run, {});
  }

  /** Creates the Secret. False where one of its name is there that is not ours; it is then left alone for good. */
  async #publish(run: Run, prepared: NonNullable<Run['prepared']>): Promise<boolean> {
    const { client } = this.#options;
    const { view } = run;
    try {
      const created = await client.create<Secret>(PATH.secrets(view.namespace), prepared.secret);
      run.secretUid = created.metadata.uid;
      run.secret = 'present';
      return true;
    } catch (error) {
      if (isConflict(error) && prepared.mayBeThere) {
        run.secret = 'present';
        return true;
      }
      if (isConflict(error)) {
        run.secret = 'foreign';
        const message = `the Secret ${secretName(view.name)} is there already and is not ours: it is left alone, and no account is handed over. Delete it, then run the build again`;
        this.#say(run, 'foreignSecret', message, {});
        return false;
      }
      // No answer: it may have been created all the same.
      if (!(error instanceof KubeError) || error.status >= 500) prepared.mayBeThere = true;
      throw error;
    }
  }

  /** Whether a Secret of the name is there: tried without a trace, since we may create Secrets and not read them. */
  async #isSecretThere(view: TaskRunView): Promise<boolean> {
    const probe = buildSecret(view, { kind: 'local' });
    try {
      await this.#options.client.create<Secret>(PATH.secrets(view.namespace), probe, { dryRun: 'All' });
      return false;
    } catch (error) {
      if (isConflict(error)) return true;
      throw error;
    }
  }

  /** Has the kubelet look again at once. It would find the Secret anyway, up to two minutes later. */
  async #nudgePod(run: Run): Promise<void> {
    const { podName, namespace } = run.view;
    if (podName === undefined) return;
    try {
      await ignoreNotFound(
        this.#options.client.patch<KubeObject>(PATH.pods(namespace, podName), {
          metadata: { annotations: { [ANNOTATION.secretReady]: 'true' } },
        }),
      );
    } catch (error) {
      this.#options.log.warn(
        { ...this.#fields(run), err: error },
        `the Pod ${podName} could not be told of its Secret: ${messageOf(error)}`,
      );
    }
  }

  /** Account first, then the Secret, then labels and finalizer; the slot is free when all that is done. */
  async #release(run: Run): Promise<void> {
    const { pool, client, clock, metrics } = this.#options;
    const { view } = run;
    const { uid } = view;
    pool.leave(uid);
    run.releaseStartMs ??= Math.min(view.endedAtMs ?? clock.now(), clock.now());
    const host = pool.hostOf(uid);
    if (host !== undefined && run.mayHaveAccount) await this.#removeAccount(run, host, run.releaseStartMs);
    if (run.secret === 'present' || run.secret === 'unknown' || run.prepared?.mayBeThere === true) {
      await this.#deleteSecret(client, view, run.secretUid);
    }
    run.secret = 'absent';
    run.secretUid = undefined;
    run.prepared = undefined;
    if (!run.gone && !(await this.#patch(run, unmarkPatch(view)))) return;
    if (run.assignedAtMs !== undefined && host !== undefined) {
      metrics.taskRunTime.observe(
        { platform: platformOf(view) },
        Math.max(0, run.releaseStartMs - run.assignedAtMs) / 1000,
      );
    }
    run.assignedAtMs = undefined;
    this.applyChanges(pool.release(uid));
    // The last finalizer may have been ours: there is nothing to look at any more.
    if (run.view.deleting) run.gone = true;
  }

  async #removeAccount(run: Run, host: string, startMs: number): Promise<void> {
    const { fleet, metrics, clock, letGoAfterMs } = this.#options;
    const { view } = run;
    const account = accountName(view.uid);
    const tryStartMs = clock.now();
    try {
      await fleet.removeAccount(host, account, view.uid);
      const durationMs = Math.round(clock.now() - tryStartMs);
      this.#say(run, 'cleaned', `nothing of it is left on host ${host}`, { host, durationMs });
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      metrics.cleanupFailures.inc({ platform: platformOf(view) });
      if (clock.now() - startMs < letGoAfterMs) {
        this.#say(run, 'cleanupFailed', `the account on host ${host} could not be removed yet: ${error.message}`, {
          host,
          code: error.code,
        });
        throw error;
      }
      const since = new Date(startMs).toISOString();
      await fleet.owe(account, { host, taskRunUid: view.uid, namespace: view.namespace, taskRun: view.name, since });
      this.#say(
        run,
        'letGo',
        `the account on host ${host} could not be removed and is written down to be removed later: ${error.message}`,
        { host },
      );
    }
    run.mayHaveAccount = false;
  }

  async #deleteSecret(client: KubeClient, view: TaskRunView, uid: string | undefined): Promise<void> {
    try {
      await ignoreNotFound(
        client.delete(PATH.secrets(view.namespace, secretName(view.name)), uid === undefined ? undefined : { uid }),
      );
    } catch (error) {
      // Another one has taken its place; ours is gone.
      if (!isConflict(error)) throw error;
    }
  }

  /** Writes the state that the TaskRun is in. False where it changed meanwhile: then it is to be decided again. */
  async #mark(run: Run, state: { waiting?: boolean; host?: string; error?: string }): Promise<boolean> {
    const { view } = run;
    const target = targetLabel(view);
    const failed = [...new Set([...(view.hasFinalizer ? failedHostsOf(view) : []), ...run.failures.keys()])];
    const marks: Marks = {
      labels: {
        [LABEL.targetPlatform]: target,
        [LABEL.waitingForPlatform]: state.waiting === true ? target : undefined,
        [LABEL.assignedHost]: state.host,
      },
      annotations: {
        [ANNOTATION.allocationStartTime]: msToSeconds(run.searchStartMs),
        [ANNOTATION.buildStartTime]:
          state.host === undefined ? undefined : msToSeconds(run.slotAtMs ?? this.#options.clock.now()),
        [ANNOTATION.failedHosts]: failed.length === 0 ? undefined : failed.join(','),
        [ANNOTATION.error]: state.error,
        [ANNOTATION.foreignSecret]: run.secret === 'foreign' ? 'true' : undefined,
      },
    };
    return await this.#patch(run, markPatch(view, marks));
  }

  async #patch(run: Run, patch: object | null): Promise<boolean> {
    if (patch === null) return true;
    const { namespace, name, uid } = run.view;
    try {
      const view = viewOf(await this.#options.client.patch(PATH.taskRuns(namespace, name), patch));
      if (view.uid === uid && isNewer(view.resourceVersion, run.view.resourceVersion)) run.view = view;
      return true;
    } catch (error) {
      if (isConflict(error)) {
        await this.#refresh(run);
        return false;
      }
      if (isNotFound(error)) {
        run.gone = true;
        return false;
      }
      throw error;
    }
  }

  async #refresh(run: Run): Promise<void> {
    const { namespace, name, uid } = run.view;
    const found = await ignoreNotFound(this.#options.client.get(PATH.taskRuns(namespace, name)));
    run.lost = false;
    if (found === null || found.metadata.uid !== uid) {
      run.gone = true;
      return;
    }
    const view = viewOf(found);
    if (isNewer(view.resourceVersion, run.view.resourceVersion)) run.view = view;
  }

  #waitTimeoutMs(run: Run): number | undefined {
    const state = this.#options.configState();
    return 'config' in state
      ? (state.config.waitTimeoutMs.get(platformOf(run.view)) ?? state.config.waitTimeoutMs.get(''))
      : undefined;
  }

  /** One line in the log, one Event. */
  #say(run: Run, kind: EventKind, message: string, fields: Readonly<Record<string, string | number>>): void {
    const { log, events } = this.#options;
    const { namespace, name, uid } = run.view;
    log.info({ ...this.#fields(run), ...fields, event: kind }, `TaskRun ${namespace}/${name} ${message}`);
    const durationMs = fields.durationMs === undefined ? '' : ` (${fields.durationMs} ms)`;
    events.record(kind, { apiVersion: 'tekton.dev/v1', kind: 'TaskRun', namespace, name, uid }, message + durationMs);
  }

  #fields(run: Run | undefined): Record<string, string> {
    if (run === undefined) return {};
    const { namespace, name, uid } = run.view;
    return { namespace, name, uid, platform: platformOf(run.view) };
  }
}

function newRun(view: TaskRunView): Run {
  return {
    view,
    gone: false,
    lost: false,
    searchStartMs: undefined,
    slotAtMs: undefined,
    assignedAtMs: undefined,
    secret: 'absent',
    secretUid: undefined,
    prepared: undefined,
    mayHaveAccount: false,
    releaseStartMs: undefined,
    failures: new Map(),
  };
}

/** What is certain never to need anything from us is not even remembered. */
function isOfInterest(view: TaskRunView): boolean {
  if (view.hasFinalizer) return true;
  return view.platform.kind !== 'none' && view.mount !== 'not-mounted' && !view.done && !view.deleting;
}

/** First come, first served: when the search began, else when it was created. */
function orderOf(run: Run): number {
  return secondsToMs(run.view.annotations[ANNOTATION.allocationStartTime]) ?? Date.parse(run.view.createdAt);
}

function platformOf({ platform }: TaskRunView): string {
  return platform.kind === 'string' ? platformLabel(platform.value) : '';
}

function targetLabel(view: TaskRunView): string | undefined {
  return platformOf(view) || undefined;
}

function platformsOf(config: HostConfig): string[] {
  return [...new Set([...config.hosts.values().map((host) => host.platform), ...config.localPlatforms])].toSorted();
}

function secondsToMs(seconds: string | undefined): number | undefined {
  const value = Number(seconds);
  return seconds === undefined || !Number.isFinite(value) ? undefined : value * 1000;
}

function msToSeconds(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : String(Math.floor(ms / 1000));
}
