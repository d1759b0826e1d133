import { backoffMs } from '#shared/backoff.ts';
import type { Clock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import { parseHostConfig, type HostSpec } from '#shared/host-config.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound } from '#shared/kubernetes/errors.ts';
import type { ConfigMap, KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import type { Logger } from '#shared/log.ts';
import { ANNOTATION, HOST_CONFIG_NAME, secretName } from '#shared/names.ts';

import type { Endpoint, HostOperations } from './host/contract.ts';
import { endpointId, endpointOf, parseRecord, RECORDS_NAME, type HostRecord } from './host/records.ts';
import { Store } from './host/store.ts';
import { LEASE_TIMING } from './leader.ts';
import { unmarkPatch } from './taskrun/patch.ts';
import { newRun } from './taskrun/run.ts';
import { assignedHostOf, viewOf, type TaskRunView } from './taskrun/view.ts';
import { TaskRunWriter } from './taskrun/writer.ts';

/** Longer than any uninstall takes; a controller that is not removed after all goes on when it is over. */
const HOLD_SECONDS = 900;
const HOST_TRIES = 3;
const HOST_RETRY = { baseMs: 2000, maxMs: 10_000 };
const MAX_PARALLEL = 32;
/** An API server that has not seen yet that marking is over may mark for about a second. */
const QUIET_MS = 2000;

/** The part of a Lease that is read here (kubernetes.io/docs/reference/kubernetes-api/cluster-resources/lease-v1). */
interface Lease extends KubeObject {
  spec?: { holderIdentity?: string | null };
}

export interface WithdrawOptions {
  client: KubeClient;
  namespace: string;
  leaseName: string;
  identity: string;
  /** Paths of the objects by which the API server marks TaskRuns. */
  marking: readonly string[];
  connect: (endpoint: Endpoint) => HostOperations;
  /** How long emptying the hosts may take. */
  hostsWithinMs: number;
  clock: Clock;
  log: Logger;
}

/**
 * Undoes, in the cluster and on the hosts, what a running installation has done: no controller leads any more, no host has an account
 * of ours, nothing is marked any more, no TaskRun has a mark or a Secret of ours. May be repeated. Builds that run on hosts end.
 * A host that cannot be reached is logged and does not hold up the rest.
 */
export async function withdraw(options: WithdrawOptions): Promise<{ hostsLeft: string[] }> {
  const { client, marking, log } = options;
  await takeLease(options);
  const hostsLeft = await emptyHosts(options);
  // As late as it can be: nothing brings it back by itself where the uninstallation ends before its end.
  for (const path of marking) await ignoreNotFound(client.delete(path));
  const taskRuns = await letGo(options);
  log.info({ taskRuns, hostsLeft }, `let go of ${taskRuns} TaskRuns`);
  return { hostsLeft };
}

/** Whoever leads stops: at once when it sees that another holds the lease, and at its deadline where it sees nothing. */
async function takeLease(options: WithdrawOptions): Promise<void> {
  const { client, namespace, leaseName, identity, clock, log } = options;
  const found = await ignoreNotFound(client.get<Lease>(PATH.leases(namespace, leaseName)));
  await writeLease(options, found, { holderIdentity: identity, leaseDurationSeconds: HOLD_SECONDS });
  const previous = found?.spec?.holderIdentity;
  if (!previous || previous === identity) return;
  log.info({ previous }, `took over from ${previous}, and waits until it has certainly stopped`);
  await clock.sleep(LEASE_TIMING.leaseDurationMs);
}

/** Gives the lease back, for an installation that stays after all. */
export async function giveLeaseBack(options: Omit<WithdrawOptions, 'connect'>): Promise<void> {
  const { client, namespace, leaseName, identity } = options;
  const found = await ignoreNotFound(client.get<Lease>(PATH.leases(namespace, leaseName)));
  if (found?.spec?.holderIdentity !== identity) return;
  await writeLease(options, found, { holderIdentity: '', leaseDurationSeconds: 1 });
}

async function writeLease(
  { client, namespace, leaseName, clock }: Pick<WithdrawOptions, 'client' | 'namespace' | 'leaseName' | 'clock'>,
  found: Lease | null,
  holder: { holderIdentity: string; leaseDurationSeconds: number },
): Promise<void> {
  const now = new Date(clock.now()).toISOString().replace('Z', '000Z');
  const lease = {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: found?.metadata ?? { name: leaseName },
    spec: { ...holder, acquireTime: now, renewTime: now },
  };
  if (found === null) await client.create<KubeObject & { spec: object }>(PATH.leases(namespace), lease);
  else await client.replace<KubeObject & { spec: object }>(PATH.leases(namespace, leaseName), lease);
}

/** Removes every account that carries our mark from every place where a host is or was. Gives the hosts where that failed. */
async function emptyHosts(options: WithdrawOptions): Promise<string[]> {
  const { hostsWithinMs, clock } = options;
  const timeUp = new AbortController();
  const deadline = clock.sleep(hostsWithinMs, timeUp.signal).then(() => timeUp.abort());
  const left: string[] = [];
  await inParallel([...(await endpoints(options))], async ([name, endpoint]) => {
    if (!(await emptyHost(options, name, endpoint, timeUp.signal))) left.push(name);
  });
  timeUp.abort();
  await deadline;
  return left;
}

async function emptyHost(
  { connect, clock, log }: WithdrawOptions,
  host: string,
  endpoint: Endpoint,
  signal: AbortSignal,
): Promise<boolean> {
  const operations = connect(endpoint);
  const close = (): void => operations.close();
  signal.addEventListener('abort', close);
  try {
    for (let attempt = 1; attempt <= HOST_TRIES && !signal.aborted; attempt++) {
      try {
        const accounts = await operations.listAccounts();
        await Promise.all(accounts.map(({ account }) => operations.removeAccount(account)));
        log.info({ host, accounts: accounts.length }, `host ${host}: removed ${accounts.length} accounts`);
        return true;
      } catch (error) {
        const fields = { host, address: endpoint.address, attempt, err: error };
        log.warn(fields, `host ${host}: accounts may be left: ${messageOf(error)}`);
        if (attempt < HOST_TRIES) await clock.sleep(backoffMs(attempt, HOST_RETRY), signal);
      }
    }
    return false;
  } finally {
    signal.removeEventListener('abort', close);
    close();
  }
}

/** With the name of a host that is or was there. */
async function endpoints({ client, namespace, log }: WithdrawOptions): Promise<Iterable<[string, Endpoint]>> {
  const records = await Store.open<HostRecord>({ client, namespace, name: RECORDS_NAME, parse: parseRecord, log });
  const found = await client.list<ConfigMap>(PATH.configMaps(namespace), {
    fieldSelector: `metadata.name=${HOST_CONFIG_NAME}`,
  });
  const specs: ReadonlyMap<string, HostSpec> = parseHostConfig(found.items[0]?.data ?? {}).hosts;
  const byId = new Map<string, [string, Endpoint]>();
  for (const [name, record] of records.entries())
    for (const endpoint of record.endpoints) byId.set(endpointId(endpoint), [name, endpoint]);
  const all = [...records.entries()].map(([, record]) => record);
  for (const [name, spec] of specs) {
    const endpoint = endpointOf(spec, all);
    byId.set(endpointId(endpoint), [name, endpoint]);
  }
  return byId.values();
}

/** Takes marks and Secrets off all TaskRuns, until none appears any more. Gives their number. */
async function letGo({ client, clock, log }: WithdrawOptions): Promise<number> {
  const writer = new TaskRunWriter({ client, clock });
  let count = 0;
  for (let quiet = 0; quiet < 2;) {
    const views = await markedTaskRuns(client);
    quiet = views.length === 0 ? quiet + 1 : 0;
    await inParallel(views, async (view) => {
      const { namespace, name } = view;
      if (mayHaveSecret(view)) await ignoreNotFound(client.delete(PATH.secrets(namespace, secretName(name))));
      // One that changed meanwhile is met again.
      if (!(await writer.unmark(newRun(view)))) return;
      count++;
      log.info({ namespace, name }, `TaskRun ${namespace}/${name} is let go`);
    });
    await clock.sleep(views.length === 0 ? QUIET_MS : 0);
  }
  return count;
}

async function markedTaskRuns(client: KubeClient): Promise<TaskRunView[]> {
  const views: TaskRunView[] = [];
  let token: string | undefined;
  do {
    const page = await ignoreNotFound(client.list(PATH.taskRuns(), { limit: 500, continue: token }));
    // Tekton was removed before us, and its TaskRuns with it.
    if (page === null) return [];
    views.push(...page.items.map(viewOf).filter((view) => unmarkPatch(view) !== null));
    token = page.metadata.continue || undefined;
  } while (token !== undefined);
  return views;
}

/** As after a restart (docs/decisions/0004-secrets-without-reading-them.md). */
function mayHaveSecret(view: TaskRunView): boolean {
  if (view.annotations[ANNOTATION.foreignSecret] !== undefined) return false;
  return assignedHostOf(view) !== undefined || view.annotations[ANNOTATION.error] !== undefined;
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  const workers = Array.from({ length: Math.min(MAX_PARALLEL, items.length) }, async () => {
    for (const item of rest) await work(item);
  });
  await Promise.all(workers);
}
