import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { Sandbox } from '#sandbox/sandbox.ts';
import { RECORDS_NAME } from '#controller/host/records.ts';
import { KubeClient } from '#shared/kubernetes/client.ts';
import { loadKubeConfig } from '#shared/kubernetes/config.ts';
import type { Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { ANNOTATION, FINALIZER, HOST_CONFIG_NAME, LABEL, SECRET_PREFIX } from '#shared/names.ts';

import { ARM, BUILDS, builds, leftOnHosts, outcomeOf, until, watchAccounts } from './support/builds.ts';
import { controllerOf, startWithBuilds } from './support/controlled.ts';

const SLOTS = 3;
/** Left where any of the commands that are tried ran. */
const TRACE = '/tmp/it-was-executed';
const EVIL = [
  `'; touch ${TRACE}; '`,
  `"; touch ${TRACE}; "`,
  `$(touch ${TRACE})`,
  `\`touch ${TRACE}\``,
  `a\ntouch ${TRACE}\n`,
  `linux/arm64\u0000`,
  `линукс/ар𝓂64 🏗 \u202E`,
  `../../${'a/'.repeat(100)}`,
  `linux/${'a'.repeat(253)}`,
  '-oProxyCommand=touch',
];

let sandbox: Sandbox;
let on: ReturnType<typeof builds>;
let its: ReturnType<typeof controllerOf>;

beforeAll(async () => {
  sandbox = await startWithBuilds({
    hosts: ['a', 'b'].map((name) => ({ name, platform: ARM, slots: SLOTS })),
    webhook: false,
  });
  on = builds(sandbox);
  its = controllerOf(sandbox);
});

afterAll(async () => {
  await sandbox?.stop();
});

const nothingIsLeft = async (): Promise<void> => {
  expect(await on.leftInCluster()).toEqual([]);
  expect(await leftOnHosts(sandbox.hosts)).toEqual([]);
  expect(await its.debts()).toEqual([]);
};

/** Slots that the controller itself takes for taken. */
const usedSlots = async (): Promise<number> => {
  const used = await Promise.all(
    sandbox.hosts.map(({ name }) => its.metric('host_slots_used', `{host="${name}",platform="linux-arm64"}`)),
  );
  return used.reduce<number>((sum, count) => sum + (count ?? 0), 0);
};

const nothingIsUsed = async (): Promise<void> =>
  void (await until('all slots to be free', async () => ((await usedSlots()) === 0 ? true : null)));

async function traces(): Promise<string[]> {
  const found = await Promise.all(
    sandbox.hosts.map(async (host) => ((await host.exec(['test', '-e', TRACE])).code === 0 ? [host.name] : [])),
  );
  return found.flat();
}

describe('what a user writes', () => {
  test('as the platform is said in the log, and nothing else comes of it', async () => {
    const names = EVIL.map((_, index) => `platform-${index}`);
    await Promise.all(EVIL.map((platform, index) => on.create({ name: names[index] ?? '', platform })));
    const ended = await Promise.all(names.map((name) => on.released(name)));
    expect(ended.map(outcomeOf)).toEqual(names.map(() => 'False'));
    const logs = await Promise.all(names.map((name) => on.log(name)));
    for (const log of logs) {
      expect(log).toContain('a platform looks like "linux/arm64"');
      expect(log.trimEnd().split('\n')).toHaveLength(1);
      expect(log.length).toBeLessThan(600);
    }
    expect(await traces()).toEqual([]);
    await nothingIsLeft();
  });

  test('of a megabyte is not kept', async () => {
    await on.create({ name: 'megabyte', platform: 'linux/arm64'.repeat(90_000) });
    expect(outcomeOf(await on.released('megabyte'))).toBe('False');
    expect(await on.log('megabyte')).toContain('which is not a platform');
    expect((await sandbox.controller.log()).length).toBeLessThan(1_000_000);
    await sandbox.client.delete(PATH.taskRuns(BUILDS, 'megabyte'));
  });

  test('as annotations, labels and a timeout of centuries does not matter', async () => {
    const annotations = Object.fromEntries(EVIL.map((text, index) => [`evil/${index}`, text]));
    await on.create({
      name: 'annotated',
      metadata: { annotations, labels: { evil: 'x'.repeat(63) } },
      spec: { timeout: '2540400h10m10.000000000s', retries: 2_000_000_000 },
    });
    expect(outcomeOf(await on.released('annotated'))).toBe('True');
    expect(await its.isOffered('a')).toBe(true);
    expect(await its.isOffered('b')).toBe(true);
    expect(await traces()).toEqual([]);
  });

  test('as a name: of 63 characters a build runs; one that can have no Secret, since it is too long, takes no slot', async () => {
    const namespace = 'n'.repeat(63);
    await sandbox.createNamespace(namespace);
    const ordinary = `${'a.'.repeat(20)}${'b'.repeat(23)}`;
    expect(ordinary).toHaveLength(63);
    await on.create({ name: ordinary, namespace });
    expect(outcomeOf(await on.released(ordinary, namespace))).toBe('True');

    const possible = `${'c'.repeat(63)}.${'d'.repeat(170)}`;
    const impossible = `${possible}${'e'.repeat(19)}`;
    expect([SECRET_PREFIX.length + possible.length, impossible.length]).toEqual([253, 253]);
    for (const name of [possible, impossible]) {
      // Tekton itself makes no Pod of such a name. Held back, it is not asked to; what it would have resolved is written for it.
      await on.create({ name, namespace, spec: { status: 'TaskRunPending' } });
      const taskSpec = { steps: [], volumes: [{ name: 'ssh', secret: { secretName: SECRET_PREFIX + name } }] };
      await sandbox.client.patch(`${PATH.taskRuns(namespace, name)}/status`, { status: { podName: '', taskSpec } });
    }
    await until('the Secret', async () => await on.secret(possible, namespace));
    await until('it to be told', async () => {
      const events = await on.events(impossible, namespace);
      return events.find(({ reason }) => reason === 'SecretRefused') ?? null;
    });
    await until('its slot to be free', async () => ((await usedSlots()) === 1 ? true : null));
    for (const name of [possible, impossible]) {
      await on.delete(name, namespace);
      await on.gone(name, namespace);
    }
    await nothingIsUsed();
    await nothingIsLeft();
  });
});

describe('what a user forges on a new TaskRun', () => {
  const forged = (host: string): Record<string, unknown> => ({
    finalizers: ['somebody.else/finalizer', FINALIZER],
    labels: {
      [LABEL.assignedHost]: host,
      [LABEL.targetPlatform]: 'linux-s390x',
      [LABEL.waitingForPlatform]: 'linux-s390x',
    },
    annotations: {
      [ANNOTATION.failedHosts]: 'b',
      [ANNOTATION.allocationStartTime]: '1',
      [ANNOTATION.buildStartTime]: '-1e300',
    },
  });

  test('gets it no slot beyond those there are, neither while a controller runs nor before one starts', async () => {
    const watches = sandbox.hosts.map(watchAccounts);
    const live = Array.from({ length: 6 }, (_, index) => `forged-live-${index}`);
    const early = Array.from({ length: 9 }, (_, index) => `forged-early-${index}`);
    await Promise.all(live.map((name) => on.create({ name, metadata: forged('a') })));
    await sandbox.controller.stop();
    await Promise.all(early.map((name) => on.create({ name, metadata: forged('a') })));
    await sandbox.controller.start();
    const all = [...live, ...early];
    const ended = await Promise.all(all.map((name) => on.released(name)));
    const most = await Promise.all(watches.map((watch) => watch.stop()));
    for (const count of most) expect(count).toBeLessThanOrEqual(SLOTS);
    expect(ended.map(outcomeOf)).toEqual(all.map(() => 'True'));
    expect(ended.map(({ metadata }) => metadata.finalizers)).toEqual(all.map(() => ['somebody.else/finalizer']));
    await nothingIsLeft();
    for (const name of all) await sandbox.client.patch(PATH.taskRuns(BUILDS, name), { metadata: { finalizers: null } });
  });

  test('of a size that fills the object, names no host, and is not passed on', async () => {
    const metadata = {
      finalizers: [FINALIZER],
      annotations: {
        [ANNOTATION.failedHosts]: Array.from({ length: 30_000 }, (_, index) => `h${index}`).join(','),
        [ANNOTATION.error]: 'forged $(id)',
        [ANNOTATION.foreignSecret]: 'maybe',
      },
    };
    await on.create({ name: 'forged-size', metadata });
    expect(outcomeOf(await on.released('forged-size'))).toBe('True');
    const other = { ...metadata, annotations: { [ANNOTATION.failedHosts]: 'a,b,a,$(id),' } };
    await on.create({ name: 'forged-failures', metadata: other });
    const ended = await on.released('forged-failures');
    expect(outcomeOf(ended)).toBe('False');
    expect(await on.log('forged-failures')).toMatch(/^- a: failed earlier$/m);
    expect(await on.log('forged-failures')).not.toContain('$(id)');
    await nothingIsLeft();
  });

  test('that is none of ours is taken off', async () => {
    const spec = { params: [], taskSpec: { steps: [{ name: 's', image: 'not-pulled', script: 'true' }] } };
    await on.create({ name: 'forged-not-ours', metadata: forged('a'), spec });
    const unmarked = await until('it to be unmarked', async () => {
      const found = await on.get('forged-not-ours');
      return found?.metadata.finalizers?.includes(FINALIZER) === true ? null : found;
    });
    expect(unmarked.metadata.finalizers).toEqual(['somebody.else/finalizer']);
    await sandbox.client.patch(PATH.taskRuns(BUILDS, 'forged-not-ours'), { metadata: { finalizers: null } });
  });
});

describe('a user who takes from a running TaskRun', () => {
  const bare = { finalizers: null, labels: null };

  test('our labels and finalizer gets them back, and leaves nothing at the end', async () => {
    await on.create({ name: 'stripped', remote: 'sleep 3; echo built' });
    await on.running('stripped');
    await sandbox.client.patch(PATH.taskRuns(BUILDS, 'stripped'), { metadata: bare });
    await until('the marks to be back', async () => {
      const { finalizers, labels } = (await on.get('stripped'))?.metadata ?? {};
      return finalizers?.includes(FINALIZER) === true && labels?.[LABEL.assignedHost] !== undefined ? true : null;
    });
    expect(outcomeOf(await on.released('stripped'))).toBe('True');
    await nothingIsUsed();
    await nothingIsLeft();
  });

  test('our finalizer, and deletes it at once, leaves nothing, with a controller and without', async () => {
    for (const isUp of [true, false]) {
      const name = isUp ? 'torn-out' : 'torn-out-meanwhile';
      const { uid } = (await on.create({ name, remote: 'sleep 1000' })).metadata;
      await on.running(name);
      if (!isUp) await its.kill();
      await on.delete(name);
      await sandbox.client.patch(PATH.taskRuns(BUILDS, name), { metadata: { finalizers: null } }).catch(() => null);
      await on.gone(name);
      await sandbox.controller.start();
      await until('the account to go', async () => ((await leftOnHosts(sandbox.hosts)).length === 0 ? true : null));
      // Kubernetes' garbage collector takes the Secret with its owner; the sandbox has none, and the controller was not there.
      const secret = await on.secret(name);
      expect(secret?.metadata.ownerReferences?.[0]?.uid).toBe(isUp ? undefined : uid);
      if (secret !== null) await sandbox.client.delete(PATH.secrets(BUILDS, SECRET_PREFIX + name));
      expect(await on.leftInCluster()).toEqual([]);
    }
    await nothingIsUsed();
  });

  test('our Secret, or puts another one in its place, leaves nothing of ours', async () => {
    await Promise.all(['deletes', 'replaces'].map((name) => on.create({ name, remote: 'sleep 2' })));
    await Promise.all(['deletes', 'replaces'].map((name) => on.running(name)));
    for (const name of ['deletes', 'replaces']) await sandbox.client.delete(PATH.secrets(BUILDS, SECRET_PREFIX + name));
    await sandbox.client.create<Secret>(PATH.secrets(BUILDS), {
      metadata: { name: `${SECRET_PREFIX}replaces` },
      stringData: { mine: 'yes' },
    });
    const ended = await Promise.all(['deletes', 'replaces'].map((name) => on.released(name)));
    expect(ended.map(outcomeOf)).toHaveLength(2);
    expect((await on.secret('replaces'))?.data).toEqual({ mine: Buffer.from('yes').toString('base64') });
    await sandbox.client.delete(PATH.secrets(BUILDS, `${SECRET_PREFIX}replaces`));
    await nothingIsUsed();
    await nothingIsLeft();
  });
});

test('a user with all rights in the namespace of the builds cannot touch records, ledger, keys or host list', async () => {
  const role = { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'all' };
  await sandbox.client.create(`/apis/rbac.authorization.k8s.io/v1/namespaces/${BUILDS}/roles`, {
    metadata: { name: 'all' },
    rules: [{ apiGroups: ['*'], resources: ['*'], verbs: ['*'] }],
  } as never);
  await sandbox.client.create(`/apis/rbac.authorization.k8s.io/v1/namespaces/${BUILDS}/rolebindings`, {
    metadata: { name: 'all' },
    roleRef: role,
    subjects: [{ apiGroup: role.apiGroup, kind: 'User', name: 'developer' }],
  } as never);
  const file = await sandbox.controlPlane.kubeconfigFor({ user: 'developer' });
  const developer = new KubeClient({ config: loadKubeConfig({ file, env: {} }) });
  try {
    await developer.list(PATH.configMaps(BUILDS));
    for (const path of [
      PATH.configMaps(sandbox.namespace, RECORDS_NAME),
      PATH.configMaps(sandbox.namespace, HOST_CONFIG_NAME),
      PATH.secrets(sandbox.namespace, 'host-admin-key'),
    ]) {
      await expect(developer.get(path)).rejects.toMatchObject({ status: 403 });
      await expect(developer.patch(path, { data: {} })).rejects.toMatchObject({ status: 403 });
    }
  } finally {
    developer.close();
  }
});
