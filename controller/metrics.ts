import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

import { METRICS_PREFIX } from '#shared/names.ts';

/** Seconds; from an account that is made in tens of milliseconds to a build of hours. */
const SHORT = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];
const LONG = [1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 43_200];

/** What the pool looks like when metrics are asked for. */
export interface PoolGauges {
  platforms: () => Iterable<{ platform: string; capacity: number; running: number; waiting: number }>;
  hosts: () => Iterable<{ host: string; platform: string; capacity: number; used: number; available: boolean }>;
  ledgerSize: () => number;
  queueDepth: () => number;
  configErrors: () => number;
}

export type Metrics = ReturnType<typeof createMetrics>;

/** The metrics of the controller. The first ten names are those of the Go implementation: dashboards use them. */
export function createMetrics(registry: Registry) {
  const registers = [registry];
  const histogram = <L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[],
    buckets: number[],
  ): Histogram<L> =>
    new Histogram({ name: METRICS_PREFIX + name, help, labelNames: [...labelNames], buckets, registers });
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> =>
    new Counter({ name: METRICS_PREFIX + name, help, labelNames: [...labelNames], registers });
  const platform = ['platform'] as const;

  return {
    hostAllocationTime: histogram(
      'host_allocation_time',
      'Seconds from the first look for a host to the slot being written',
      platform,
      SHORT,
    ),
    waitTime: histogram('wait_time', 'Seconds that TaskRuns waited in the queue for a slot', platform, LONG),
    taskRunTime: histogram(
      'task_run_time',
      'Seconds from the slot being written to the end of the TaskRun',
      platform,
      LONG,
    ),
    provisioningFailures: counter('provisioning_failures', 'Accounts that could not be made', platform),
    provisioningSuccesses: counter('provisioning_successes', 'Accounts that were made and handed over', platform),
    cleanupFailures: counter('cleanup_failures', 'Failed tries to remove an account', platform),
    hostAllocationFailures: counter('host_allocation_failures', 'TaskRuns that got an error Secret', platform),
    readySeconds: histogram(
      'host_ready_seconds',
      'Seconds from the slot being taken to the Secret being there',
      platform,
      SHORT,
    ),
    sshSeconds: histogram(
      'ssh_operation_seconds',
      'Seconds of operations on hosts',
      ['operation', 'outcome'] as const,
      SHORT,
    ),
    reconcileSeconds: histogram('reconcile_seconds', 'Seconds of one pass over one TaskRun', [] as const, SHORT),
    connectionUp: new Gauge({
      name: `${METRICS_PREFIX}host_connection_up`,
      help: '1 while there is an SSH connection to this address',
      labelNames: ['endpoint'],
      registers,
    }),
    strayAccounts: counter('stray_accounts_removed', 'Accounts with our mark that belonged to no TaskRun', [
      'host',
    ] as const),
    apiRequests: counter('kubernetes_requests', 'Requests to the API server', ['method', 'status'] as const),
    leader: new Gauge({ name: `${METRICS_PREFIX}leader`, help: '1 while this process leads', registers }),
  };
}

/** Gauges that are read off the pool when somebody asks. */
export function registerGauges(registry: Registry, gauges: PoolGauges): void {
  const gauge = <L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[],
    collect: (set: (labels: Record<L, string>, value: number) => void) => void,
  ): void => {
    // The registry keeps it.
    void new Gauge({
      name: METRICS_PREFIX + name,
      help,
      labelNames: [...labelNames],
      registers: [registry],
      collect() {
        this.reset();
        collect((labels, value) => this.set(labels, value));
      },
    });
  };
  const byPlatform = (
    name: string,
    help: string,
    value: (entry: { capacity: number; running: number; waiting: number }) => number,
  ): void =>
    gauge(name, help, ['platform'], (set) => {
      for (const entry of gauges.platforms()) set({ platform: entry.platform }, value(entry));
    });
  byPlatform('platform_pool_size', 'Slots of all hosts of the platform', (entry) => entry.capacity);
  byPlatform('running_tasks', 'TaskRuns that hold a slot', (entry) => entry.running);
  byPlatform('waiting_tasks', 'TaskRuns that wait for a slot', (entry) => entry.waiting);
  const byHost = (
    name: string,
    help: string,
    value: (entry: { capacity: number; used: number; available: boolean }) => number,
  ): void =>
    gauge(name, help, ['host', 'platform'], (set) => {
      for (const entry of gauges.hosts()) set({ host: entry.host, platform: entry.platform }, value(entry));
    });
  byHost('host_slots', 'Slots of the host', (entry) => entry.capacity);
  byHost('host_slots_used', 'Slots of the host that are taken', (entry) => entry.used);
  byHost('host_available', '1 while the host gets TaskRuns', (entry) => (entry.available ? 1 : 0));
  const single = (name: string, help: string, value: () => number): void =>
    gauge(name, help, [], (set) => set({}, value()));
  single(
    'cleanup_ledger_size',
    'Accounts that are still to be removed after their TaskRun was let go',
    gauges.ledgerSize,
  );
  single('reconcile_queue_depth', 'TaskRuns that are worked on now', gauges.queueDepth);
  single('config_errors', 'Entries of host-config that are wrong', gauges.configErrors);
}
