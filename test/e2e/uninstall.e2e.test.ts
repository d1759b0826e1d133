import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';

import { HOST_ERROR, HostError, type HostOperations } from '#controller/host/contract.ts';
import { RECORDS_NAME } from '#controller/host/records.ts';
import { Leader, LEASE_NAME, LEASE_TIMING } from '#controller/leader.ts';
import { giveLeaseBack, withdraw, type WithdrawOptions } from '#controller/withdraw.ts';
import { ensureControlPlaneAssets } from '#sandbox/control-plane/binaries.ts';
import { startControlPlane, type ControlPlane } from '#sandbox/control-plane/control-plane.ts';
import { systemClock, type Clock } from '#shared/clock.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound } from '#shared/kubernetes/errors.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { createLog } from '#shared/log.ts';
import { ANNOTATION, DEFAULT_NAMESPACE, FINALIZER, HOST_CONFIG_NAME, LABEL } from '#shared/names.ts';
import { buildRegistration } from '#webhook/registration.ts';

import { BUILDS, taskRun, until } from './support/builds.ts';

const REGISTRATION = PATH.mutatingWebhookConfigurations('multi-platform-controller');
const HOSTS_WITHIN_MS = 150_000;

let controlPlane: ControlPlane;
let client: KubeClient;
let log: string[];
let slept: number[];

/** The deadline never comes; all other waiting is over at once. */
const clock: Clock = {
  now: () => Date.now(),
  sleep: async (ms, signal) => {
    slept.push(ms);
    if (ms < HOSTS_WITHIN_MS || signal === undefined) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => resolve());
    await promise;
  },
};

beforeAll(async () => {
  const progress = { step: () => {}, update: () => {} };
  const assets = await ensureControlPlaneAssets({ env: process.env, progress });
  controlPlane = await startControlPlane({ assets, progress });
  client = controlPlane.client;
  for (const name of [DEFAULT_NAMESPACE, BUILDS]) await client.create('/api/v1/namespaces', { metadata: { name } });
  const endpoint = { address: '10.0.0.9', port: 22, user: 'root', secret: 'key', hostKeys: [] };
  await client.create<KubeObject & { data: object }>(PATH.configMaps(DEFAULT_NAMESPACE), {
    metadata: { name: RECORDS_NAME },
    data: { former: JSON.stringify({ endpoints: [endpoint] }) },
  });
  const host = { address: '10.0.0.1', user: 'root', platform: 'linux/arm64', secret: 'key', concurrency: '1' };
  await client.create<KubeObject & { data: object }>(PATH.configMaps(DEFAULT_NAMESPACE), {
    metadata: { name: HOST_CONFIG_NAME },
    data: Object.fromEntries(Object.entries(host).map(([key, value]) => [`host.now.${key}`, value])),
  });
});

beforeEach(() => {
  log = [];
  slept = [];
});

afterAll(async () => {
  await controlPlane?.stop();
});

/** With the accounts on each host, by address; undefined where it cannot be reached. */
function options(accounts: Readonly<Record<string, string[] | undefined>>): WithdrawOptions {
  return {
    client,
    namespace: DEFAULT_NAMESPACE,
    leaseName: LEASE_NAME,
    identity: 'uninstall',
    marking: [REGISTRATION],
    connect: ({ address }): HostOperations => {
      const unused = (): Promise<never> => Promise.reject(new Error('uninstalling does not need it'));
      const found = accounts[address];
      return {
        check: unused,
        createAccount: unused,
        listAccounts: () =>
          found === undefined
            ? Promise.reject(new HostError(HOST_ERROR.unreachable, 'no route'))
            : Promise.resolve(found.map((account) => ({ account, taskRunUid: 'u' }))),
        removeAccount: async (account) => void found?.splice(found.indexOf(account), 1),
        close: () => {},
      };
    },
    hostsWithinMs: HOSTS_WITHIN_MS,
    clock,
    log: createLog({ level: 'info', destination: { write: (line) => log.push(line) } }),
  };
}

async function create(name: string, metadata: object, secret = true): Promise<void> {
  await client.create(PATH.taskRuns(BUILDS), taskRun({ name, metadata: { ...metadata } }));
  if (secret) await client.create(PATH.secrets(BUILDS), { metadata: { name: `multi-platform-ssh-${name}` } });
}

const secretOf = (name: string): Promise<KubeObject | null> =>
  ignoreNotFound(client.get(PATH.secrets(BUILDS, `multi-platform-ssh-${name}`)));

function leader(identity: string): Leader {
  const silent = createLog({ level: 'error' });
  return new Leader({
    client,
    namespace: DEFAULT_NAMESPACE,
    name: LEASE_NAME,
    identity,
    clock: systemClock,
    log: silent,
  });
}

test('empties hosts that are and were, lets TaskRuns go, and what is not ours stays', async () => {
  await client.create<KubeObject>(
    REGISTRATION.replace(/\/[^/]+$/, ''),
    buildRegistration({ server: { url: 'https://127.0.0.1:1' } }),
  );
  const labels = { [LABEL.targetPlatform]: 'linux-arm64' };
  const marks = { labels: { ...labels, [LABEL.assignedHost]: 'now' }, finalizers: ['other/finalizer', FINALIZER] };
  await create('held', marks);
  await create('refused', { labels, finalizers: [FINALIZER], annotations: { [ANNOTATION.error]: 'no host' } });
  await create('waits', { labels, finalizers: [FINALIZER] });
  await create('foreign', {
    labels,
    finalizers: [FINALIZER],
    annotations: { [ANNOTATION.error]: 'x', [ANNOTATION.foreignSecret]: 'true' },
  });
  await create('unlabelled', { finalizers: [FINALIZER] }, false);
  await create('other', { finalizers: ['other/finalizer'] }, false);
  const hosts = { '10.0.0.1': ['u-1', 'u-2'], '10.0.0.9': ['u-3'] };

  expect(await withdraw(options(hosts))).toEqual({ hostsLeft: [] });

  expect(hosts).toEqual({ '10.0.0.1': [], '10.0.0.9': [] });
  expect(await ignoreNotFound(client.get(REGISTRATION))).toBeNull();
  const after = await client.list<KubeObject>(PATH.taskRuns(BUILDS));
  const left = Object.fromEntries(
    after.items.map(({ metadata }) => [metadata.name, [metadata.labels, metadata.finalizers]]),
  );
  expect(left).toEqual({
    held: [undefined, ['other/finalizer']],
    refused: [undefined, undefined],
    waits: [undefined, undefined],
    foreign: [undefined, undefined],
    unlabelled: [undefined, undefined],
    other: [undefined, ['other/finalizer']],
  });
  expect(await secretOf('held')).toBeNull();
  expect(await secretOf('refused')).toBeNull();
  // A TaskRun that never got a host has no Secret of ours; this one is somebody's.
  expect(await secretOf('waits')).not.toBeNull();
  expect(await secretOf('foreign')).not.toBeNull();
});

test('marking ends when the hosts are empty and not before, so that an uninstallation that fails earlier leaves it', async () => {
  await client.create<KubeObject>(
    REGISTRATION.replace(/\/[^/]+$/, ''),
    buildRegistration({ server: { url: 'https://127.0.0.1:1' } }),
  );
  const { connect, ...rest } = options({ '10.0.0.1': [], '10.0.0.9': [] });
  const marked: boolean[] = [];
  await withdraw({
    ...rest,
    connect: (endpoint) => ({
      ...connect(endpoint),
      listAccounts: async () => {
        marked.push((await ignoreNotFound(client.get(REGISTRATION))) !== null);
        return [];
      },
    }),
  });
  expect(marked).toEqual([true, true]);
  expect(await ignoreNotFound(client.get(REGISTRATION))).toBeNull();
});

test('a host that cannot be reached is tried three times, named, and holds nothing up', async () => {
  await create('stranded', { labels: { [LABEL.assignedHost]: 'former' }, finalizers: [FINALIZER] });
  expect(await withdraw(options({ '10.0.0.1': [] }))).toEqual({ hostsLeft: ['former'] });
  expect(log.filter((line) => line.includes('host former: accounts may be left: no route'))).toHaveLength(3);
  const { metadata } = await client.get<KubeObject>(PATH.taskRuns(BUILDS, 'stranded'));
  expect([metadata.labels, metadata.finalizers]).toEqual([undefined, undefined]);
});

test('whoever leads is out before anything is done, and nobody leads until the lease is given back', async () => {
  await giveLeaseBack(options({}));
  const lost = Promise.withResolvers<void>();
  const first = leader('first');
  await first.acquire(() => lost.resolve());
  const order: string[] = [];
  const { connect, ...rest } = options({ '10.0.0.1': [], '10.0.0.9': [] });
  await withdraw({
    ...rest,
    connect: (endpoint) => {
      order.push('host');
      return connect(endpoint);
    },
    clock: {
      now: () => clock.now(),
      sleep: async (ms, signal) => {
        if (ms === LEASE_TIMING.leaseDurationMs) order.push('waited');
        await clock.sleep(ms, signal);
      },
    },
  });
  expect(order).toEqual(['waited', 'host', 'host']);
  await lost.promise;
  expect(first.isLeading).toBe(false);

  const standby = leader('standby');
  const leads = standby.acquire(() => {});
  const held = await client.get<KubeObject & { spec: { holderIdentity: string } }>(
    PATH.leases(DEFAULT_NAMESPACE, LEASE_NAME),
  );
  expect(held.spec).toMatchObject({ holderIdentity: 'uninstall', leaseDurationSeconds: 900 });
  // Again, as by a Job that was started anew: it does not wait for itself.
  slept = [];
  expect(await withdraw({ ...rest, connect })).toEqual({ hostsLeft: [] });
  expect(slept).not.toContain(LEASE_TIMING.leaseDurationMs);
  await giveLeaseBack(rest);
  expect(await leads).toBe(true);
  await standby.release();
});

test('a TaskRun that somebody else changes meanwhile is let go all the same', async () => {
  await create('changing', { finalizers: [FINALIZER] }, false);
  const stop = new AbortController();
  const changing = (async () => {
    for (let n = 0; !stop.signal.aborted; n++)
      await client.patch(PATH.taskRuns(BUILDS, 'changing'), { metadata: { labels: { n: String(n) } } });
  })();
  await withdraw(options({ '10.0.0.1': [], '10.0.0.9': [] }));
  stop.abort();
  await changing;
  const { metadata } = await client.get<KubeObject>(PATH.taskRuns(BUILDS, 'changing'));
  expect(metadata.finalizers).toBeUndefined();
});

test('where Tekton was removed before, there are no TaskRuns to let go', async () => {
  for (const { metadata } of (await client.list<KubeObject>(PATH.taskRuns(BUILDS))).items)
    await client.patch(PATH.taskRuns(BUILDS, metadata.name), { metadata: { finalizers: null } });
  const crds = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
  await client.delete(`${crds}/taskruns.tekton.dev`);
  await until(
    'TaskRuns to be unknown',
    async () => (await ignoreNotFound(client.list(PATH.taskRuns()))) === null || null,
  );
  expect(await withdraw(options({ '10.0.0.1': [], '10.0.0.9': [] }))).toEqual({ hostsLeft: [] });
});
