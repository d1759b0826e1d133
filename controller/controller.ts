import type { KubeConfig } from '@kubernetes/client-node';
import type { Registry } from 'prom-client';

import type { Clock } from '#shared/clock.ts';
import { KubeClient } from '#shared/kubernetes/client.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { Reflector } from '#shared/kubernetes/reflector.ts';
import type { Logger } from '#shared/log.ts';
import { LABEL } from '#shared/names.ts';
import { platformLabel } from '#shared/platform.ts';

import { ConfigSource } from './config-source.ts';
import { EventRecorder } from './events.ts';
import type { AccountLimits } from './host/contract.ts';
import { Fleet } from './host/fleet.ts';
import type { HostKeyPolicy } from './host/host-key.ts';
import { createHostOperations } from './host/host.ts';
import { generateKeyPair, type KeyType } from './host/keys.ts';
import { LEDGER_NAME, parseDebt } from './host/ledger.ts';
import { endpointId, parseRecord, RECORDS_NAME } from './host/records.ts';
import { Store } from './host/store.ts';
import { KeySource } from './key-source.ts';
import type { Leader } from './leader.ts';
import { registerGauges, type Metrics } from './metrics.ts';
import { Pool, type PoolHost } from './pool/pool.ts';
import { TaskRunReconciler } from './taskrun/reconciler.ts';
import { scanForUnmarked } from './taskrun/scan.ts';
import { viewOf, type TaskRunView } from './taskrun/view.ts';

/** A standby is to take over within 2 s, and everything that is cut off can be done again. */
const STOP_PATIENCE_MS = 1000;

/** Events give way to the standby that waits for the lease. */
const EVENTS_PATIENCE_MS = 300;

export interface ControllerSettings {
  namespace: string;
  /** `off`: no webhook marks TaskRuns, so all of them are watched. */
  webhook: 'on' | 'off';
  scanIntervalMs: number;
  hostKeyPolicy: HostKeyPolicy;
  keyType: KeyType;
  letGoAfterMs: number;
  limits: AccountLimits;
}

export interface ControllerOptions {
  config: KubeConfig;
  settings: ControllerSettings;
  leader: Leader;
  registry: Registry;
  metrics: Metrics;
  identity: string;
  /** What tells our accounts from those of other installations on the same host. */
  instance: string;
  clock: Clock;
  log: Logger;
}

export interface RunningController {
  /** Why it is not ready yet, or null. */
  notReady: () => string | null;
  stop(): Promise<void>;
}

/**
 * Builds all parts and starts them in the order that a restart needs: the host list and the records, then the slots that are held, and
 * only then anything is decided or swept. Runs only while `leader` leads.
 */
export async function startController(options: ControllerOptions): Promise<RunningController> {
  const { config, settings, leader, registry, metrics, identity, instance, clock, log } = options;
  const { namespace } = settings;
  metrics.leader.set(1);
  const client = new KubeClient({
    config,
    userAgent: 'multi-platform-controller/controller',
    beforeWrite: () => leader.check(),
    onRequest: ({ method, status }) => metrics.apiRequests.inc({ method, status: String(status) }),
  });
  const events = new EventRecorder({ client, clock, log, instance: identity });
  const records = await Store.open({ client, namespace, name: RECORDS_NAME, parse: parseRecord, log });
  const ledger = await Store.open({ client, namespace, name: LEDGER_NAME, parse: parseDebt, log });
  const pool = new Pool();
  const keys = new KeySource({ client, namespace, onChange: (secret) => fleet.recheck(secret), clock, log });
  const fleet = new Fleet({
    records,
    ledger,
    connect: ({ endpoint, onFirstKey }) =>
      createHostOperations({
        endpoint,
        adminKey: () => keys.get(endpoint.secret),
        fence: () => leader.check(),
        policy: settings.hostKeyPolicy,
        instance,
        onFirstKey,
        onStateChange: (state) =>
          metrics.connectionUp.set({ endpoint: endpointId(endpoint) }, state === 'connected' ? 1 : 0),
        onOperation: ({ operation, outcome, seconds }) => metrics.sshSeconds.observe({ operation, outcome }, seconds),
        clock,
        log,
      }),
    fence: () => leader.check(),
    holderOf: (uid) => pool.hostOf(uid),
    isHeld: (host) => pool.holdersOf(host).size > 0,
    onStatus: (host, { available }) => {
      reconciler.applyChanges(pool.setAvailable(host, available));
      if (available) reconciler.reconsiderHost(host);
      else reconciler.explainWaiting(pool.platformOf(host) ?? '');
    },
    onSwept: (host, removed) => metrics.strayAccounts.inc({ host }, removed),
    clock,
    log,
  });
  const source = new ConfigSource({
    client,
    namespace,
    events,
    onChange: ({ hosts, leftOut }) => {
      fleet.configure(hosts, leftOut.keys());
      const offered: PoolHost[] = [];
      for (const { name, platform, concurrency } of hosts.values())
        offered.push({ name, platform, capacity: concurrency, formerNames: fleet.formerNamesOf(name) });
      // Until the entry is corrected, TaskRuns for its platform wait rather than fail because of a typo.
      for (const [name, platform] of leftOut) if (platform !== undefined) offered.push({ name, platform, capacity: 0 });
      reconciler.applyChanges(pool.configure(offered));
      reconciler.reconsiderAll();
    },
    clock,
    log,
  });
  const watchesAll = settings.webhook === 'off';
  const reconciler = new TaskRunReconciler({
    client,
    pool,
    fleet,
    events,
    metrics,
    configState: () => source.state,
    watchesAll,
    letGoAfterMs: settings.letGoAfterMs,
    limits: settings.limits,
    generateKeyPair: () => generateKeyPair(settings.keyType),
    clock,
    log,
  });
  // What the first list holds is taken over in one piece, before any of it is decided on.
  let early: TaskRunView[] | null = [];
  const taskRuns = new Reflector<TaskRunView>({
    client,
    path: PATH.taskRuns(),
    ...(!watchesAll && { labelSelector: LABEL.targetPlatform }),
    trim: viewOf,
    onSet: (view) => (early === null ? reconciler.offer(view) : void early.push(view)),
    onDelete: (view) => {
      if (early === null) reconciler.lose(view);
      else early = early.filter(({ uid }) => uid !== view.uid);
    },
    clock,
    log,
  });
  registerGauges(registry, {
    platforms: () => platformGauges(pool),
    hosts: () =>
      pool.hosts().map(({ name, ...use }) => ({ ...use, host: name, platform: platformLabel(use.platform) })),
    ledgerSize: () => ledger.size,
    queueDepth: () => reconciler.queueDepth,
    configErrors: () => source.errorCount,
  });

  const stopping = new AbortController();
  let isReady = false;
  const run = async (): Promise<void> => {
    await Promise.all([source.start(), keys.start(), taskRuns.start()]);
    if (stopping.signal.aborted) return;
    const views = early ?? [];
    early = null;
    reconciler.restore(views);
    fleet.start();
    isReady = true;
    log.info({ taskRuns: views.length, instance, webhook: settings.webhook }, 'ready');
    if (!watchesAll)
      await scanForUnmarked({
        client,
        intervalMs: settings.scanIntervalMs,
        onFound: (view) => reconciler.offer(view),
        signal: stopping.signal,
        clock,
        log,
      });
  };
  const running = run();
  return {
    notReady: () => (isReady ? null : 'the first lists are not in yet'),
    stop: async () => {
      stopping.abort();
      await Promise.all([source.stop(), keys.stop(), taskRuns.stop()]);
      // What is under way on a host ends by itself in well under a second, unless the host hangs.
      await Promise.race([reconciler.stop(), clock.sleep(STOP_PATIENCE_MS)]);
      await fleet.stop();
      await reconciler.stop();
      await running;
      await Promise.race([events.sent(), clock.sleep(EVENTS_PATIENCE_MS)]);
      client.close();
    },
  };
}

function* platformGauges(
  pool: Pool,
): Generator<{ platform: string; capacity: number; running: number; waiting: number }> {
  const totals = new Map<string, { capacity: number; running: number }>();
  for (const platform of pool.platforms()) totals.set(platform, { capacity: 0, running: 0 });
  for (const host of pool.hosts()) {
    const total = totals.get(host.platform);
    if (total === undefined) continue;
    total.capacity += host.capacity;
    total.running += host.used;
  }
  for (const [platform, total] of totals)
    yield { ...total, platform: platformLabel(platform), waiting: pool.waiting(platform) };
}
