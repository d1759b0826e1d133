import { readFile } from 'node:fs/promises';

import { KubeConfig } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';

import { ADMIN_KEY_SECRET, type Sandbox } from '#sandbox/sandbox.ts';
import { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound, isConflict, KubeError } from '#shared/kubernetes/errors.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { ANNOTATION, FINALIZER, LABEL, RESERVED_ANNOTATIONS, RESERVED_LABELS } from '#shared/names.ts';
import { MUTATION_CASES } from '#webhook/mutation-cases.ts';

import { BUILDS, builds, leftOnHosts, outcomeOf, taskRun, until } from './support/builds.ts';
import { auditLines, controllerSuite } from './support/controller-suite.ts';
import { CHART, finishJob } from './support/helm.ts';
import { everything } from './support/everything.ts';
import { CONTROLLER, RELEASE, startInstalled, WEBHOOK, type Installed, type Workload } from './support/installed.ts';
import { runPod, tokenOf } from './support/pod-stand-in.ts';
import { TRESPASSES } from './support/trespasses.ts';

const RBAC = '/apis/rbac.authorization.k8s.io/v1';
const REGISTRATION = PATH.mutatingWebhookConfigurations(CONTROLLER);
const MARKED = { labels: { [LABEL.targetPlatform]: 'linux-arm64' }, finalizers: [FINALIZER] };

/** Of the table of mutations those where the webhook leaves a mark that the user made up. */
const LEFT_FORGED: ReadonlySet<string> = new Set(['without PLATFORM nothing is touched']);

let installed: Installed;
let sandbox: Sandbox;
const clients: KubeClient[] = [];

describe('the end-to-end suite, with the processes of the chart', () => {
  const start: Parameters<typeof controllerSuite>[0] = async (options) => {
    installed = await startInstalled(options);
    sandbox = installed.sandbox;
    // The tests below go on with it.
    return { ...sandbox, stop: async () => {} };
  };
  controllerSuite(start, { load: 24 });
});

afterAll(async () => {
  for (const client of clients) client.close();
  await sandbox?.stop();
});

async function clientOf(identity: Parameters<Sandbox['controlPlane']['kubeconfigFor']>[0]): Promise<KubeClient> {
  const config = new KubeConfig();
  config.loadFromFile(await sandbox.controlPlane.kubeconfigFor(identity));
  const client = new KubeClient({ config, userAgent: 'a-test' });
  clients.push(client);
  return client;
}

/** Lets a user do all that `rules` say, in all namespaces. */
async function grant(user: string, rules: readonly object[]): Promise<KubeClient> {
  const metadata = { name: user };
  const subjects = [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: user }];
  await sandbox.client.create<KubeObject & { rules: unknown }>(`${RBAC}/clusterroles`, { metadata, rules });
  await sandbox.client.create<KubeObject & { roleRef: unknown; subjects: unknown }>(`${RBAC}/clusterrolebindings`, {
    metadata,
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: user },
    subjects,
  });
  return await clientOf({ user });
}

/** What was refused to the processes of a ServiceAccount. They name themselves; the tests call themselves otherwise. */
async function refusedTo(name: string): Promise<string[]> {
  const user = `system:serviceaccount:${sandbox.namespace}:${name}`;
  const lines = (await auditLines(sandbox)).filter(
    (line) => line.user?.username === user && line.userAgent !== 'a-test',
  );
  expect(lines.length).toBeGreaterThan(0);
  return lines
    .filter(({ responseStatus }) => responseStatus?.code === 403 || responseStatus?.code === 401)
    .map(({ verb, requestURI, responseStatus }) => `${responseStatus?.code} ${verb} ${requestURI}`);
}

test('nothing that the two processes did was forbidden', async () => {
  for (const name of [CONTROLLER, WEBHOOK]) expect(await refusedTo(name)).toEqual([]);
  for (const process of [sandbox.controller, sandbox.webhook]) expect(await process.log()).not.toMatch(/forbidden/i);
});

test("the guide's first build runs as it is written there", async () => {
  const guide = await readFile(new URL('../../docs/install.md', import.meta.url), 'utf8');
  const [, block = ''] = /^```yaml\n(apiVersion: tekton\.dev.*?)^```$/ms.exec(guide) ?? [];
  const written = parse(block) as KubeObject;
  await sandbox.client.create(PATH.taskRuns(BUILDS), written);
  const on = builds(sandbox);
  expect(outcomeOf(await on.released(written.metadata.name))).toBe('True');
  expect(await on.log(written.metadata.name)).toMatch(/\nu-[0-9a-f]{28}\n\/home\/u-/);
});

describe('with a token of', () => {
  beforeAll(async () => {
    const { client } = sandbox;
    await client.create(PATH.secrets(BUILDS), { metadata: { name: 'of-a-tenant' } });
    await client.create<KubeObject & { spec: object }>(PATH.pods(BUILDS), {
      metadata: { name: 'of-a-tenant', annotations: { note: 'a' }, labels: { app: 'a' } },
      spec: { nodeName: 'nowhere', containers: [{ name: 'c', image: 'i' }] },
    });
    const victim = taskRun({ name: 'victim', platform: null });
    const metadata = { labels: { app: 'a' }, annotations: { note: 'a' }, finalizers: ['a.b/c'] };
    await client.create(PATH.taskRuns(BUILDS), { ...victim, metadata: { ...victim.metadata, ...metadata } });
  });

  test.each(['controller', 'webhook'] as const)('the %s nobody can do what is not its work', async (who) => {
    const name = who === 'controller' ? CONTROLLER : WEBHOOK;
    const thief = await clientOf({ token: await tokenOf(sandbox.controlPlane, sandbox.namespace, name) });
    const done: string[] = [];
    for (const [what, method, path, body] of TRESPASSES[who]) {
      const contentType = method === 'PATCH' ? { contentType: 'application/merge-patch+json' } : {};
      const status = await thief.request(method, path, { ...contentType, body }).then(
        () => 200,
        (error: unknown) => (error instanceof KubeError ? error.status : 0),
      );
      if (status !== 403) done.push(`${what}: ${status}`);
    }
    expect(done).toEqual([]);
  });

  test('the controller all Secrets of its namespace can be read, and so docs/security.md says', async () => {
    const controller = await clientOf({ token: await tokenOf(sandbox.controlPlane, sandbox.namespace, CONTROLLER) });
    const { items } = await controller.list(PATH.secrets(sandbox.namespace));
    const names = items.map(({ metadata }) => metadata.name);
    expect(names).toEqual(expect.arrayContaining([ADMIN_KEY_SECRET, `${WEBHOOK}-certificate`]));
    const docs = await readFile(new URL('../../docs/security.md', import.meta.url), 'utf8');
    expect(docs).toContain('can read **every** Secret of that namespace');
  });

  test('the controller a Secret of ours can be made and deleted, which shows that the tries above reached the server', async () => {
    const controller = await clientOf({ token: await tokenOf(sandbox.controlPlane, sandbox.namespace, CONTROLLER) });
    const secret = { metadata: { name: 'multi-platform-ssh-probe' }, type: 'Opaque' };
    await controller.create(PATH.secrets(BUILDS), secret);
    await controller.delete(PATH.secrets(BUILDS, secret.metadata.name));
    const nudge = { metadata: { annotations: { [ANNOTATION.secretReady]: 'true' } } };
    const nudged = await controller.patch<KubeObject>(PATH.pods(BUILDS, 'of-a-tenant'), nudge);
    expect(nudged.metadata.annotations).toEqual({ note: 'a', [ANNOTATION.secretReady]: 'true' });
    // The finalizer not last, as where others came later.
    const marks = {
      labels: { [LABEL.assignedHost]: 'b' },
      annotations: { [ANNOTATION.error]: 'no host' },
      finalizers: [FINALIZER, 'a.b/c'],
    };
    const path = PATH.taskRuns(BUILDS, 'victim');
    expect((await controller.patch<KubeObject>(path, { metadata: marks })).metadata.finalizers).toHaveLength(2);
    const off = { labels: { [LABEL.assignedHost]: null }, finalizers: ['a.b/c'] };
    const { metadata } = await controller.patch<KubeObject>(path, { metadata: off });
    expect(metadata).toMatchObject({ labels: { app: 'a' }, finalizers: ['a.b/c'] });
  });
});

interface Written extends KubeObject {
  status?: object;
}

function withMetadata(object: Written, metadata: Partial<KubeObject['metadata']>): Written {
  return { ...object, metadata: { ...object.metadata, ...metadata } };
}

describe('marks on a TaskRun', () => {
  const everyMark = [
    ...RESERVED_LABELS.map((key) => [`label ${key}`, { labels: { [key]: 'a' } }] as const),
    ...RESERVED_ANNOTATIONS.map((key) => [`annotation ${key}`, { annotations: { [key]: 'a' } }] as const),
    [`finalizer ${FINALIZER}`, { finalizers: [FINALIZER] as string[] }] as const,
  ];
  let developer: KubeClient;
  const path = PATH.taskRuns(BUILDS, 'plain');
  const running = PATH.taskRuns(BUILDS, 'marked');

  beforeAll(async () => {
    developer = await grant('developer', [{ apiGroups: ['tekton.dev'], resources: ['*'], verbs: ['*'] }]);
    await developer.create(PATH.taskRuns(BUILDS), taskRun({ name: 'plain', platform: null, remote: 'sleep 600' }));
    await developer.create(PATH.taskRuns(BUILDS), taskRun({ name: 'marked', remote: 'sleep 600' }));
    await builds(sandbox).running('marked');
  });

  test.each(everyMark)('%s: nobody else writes it, and whoever tries is told', async (what, metadata) => {
    const refused = {
      status: 403,
      message: expect.stringContaining(`only multi-platform-controller writes ${what} on`),
    };
    await expect(developer.patch(path, { metadata })).rejects.toMatchObject(refused);
    const forged = { ...taskRun({ name: 'forged', platform: null }), metadata: { name: 'forged', ...metadata } };
    await expect(developer.create(PATH.taskRuns(BUILDS), forged)).rejects.toMatchObject(refused);
  });

  test('of a running build stay: nobody moves it to another host, hides it, or takes its finalizer off', async () => {
    for (const metadata of [
      { labels: { [LABEL.assignedHost]: 'elsewhere' } },
      { labels: { [LABEL.assignedHost]: null, [LABEL.targetPlatform]: null } },
      { annotations: { [ANNOTATION.buildStartTime]: '0' } },
      { finalizers: null },
    ])
      await expect(developer.patch(running, { metadata })).rejects.toMatchObject({ status: 403 });
  });

  test('do not keep anybody from all the rest', async () => {
    const changed = await developer.patch(running, { metadata: { labels: { team: 'a' }, annotations: { note: 'b' } } });
    expect(changed.metadata.labels).toMatchObject({ team: 'a', [LABEL.targetPlatform]: 'linux-arm64' });
    const finalizers = [...(changed.metadata.finalizers ?? []), 'example.com/other'];
    await developer.patch(running, { metadata: { finalizers } });
    await developer.patch(running, { metadata: { finalizers: changed.metadata.finalizers } });
  });

  test("are no hindrance to Tekton's own updates", async () => {
    const tekton = await grant('tekton-controller', [
      { apiGroups: ['tekton.dev'], resources: ['taskruns', 'taskruns/status', 'taskruns/finalizers'], verbs: ['*'] },
    ]);
    const message = 'Not all Steps have finished executing';
    const conditions = [{ type: 'Succeeded', status: 'Unknown', reason: 'Running', message }];
    const write = (subpath: string, change: (found: Written) => Written): Promise<Written> =>
      // The Tekton of this cluster writes as well.
      until('a write that meets no other', async () => {
        const found = await tekton.get<Written>(running);
        return await tekton.replace<Written>(running + subpath, change(found)).catch((error: unknown) => {
          if (isConflict(error)) return null;
          throw error;
        });
      });
    const updated = await write('/status', (found) => ({ ...found, status: { ...found.status, conditions } }));
    expect(updated.status).toMatchObject({ conditions: [{ message }] });
    const labelled = await write('', (found) =>
      withMetadata(found, {
        labels: { ...found.metadata.labels, 'tekton.dev/task': 'build' },
      }),
    );
    expect(labelled.metadata.labels).toMatchObject({ 'tekton.dev/task': 'build' });
    await expect(write('', (found) => withMetadata(found, { finalizers: [] }))).rejects.toMatchObject({ status: 403 });
  });

  test('are cleaned at creation, so that a copied TaskRun is not refused', async () => {
    const forged = { labels: { [LABEL.assignedHost]: 'b' }, annotations: { [ANNOTATION.failedHosts]: 'a' } };
    const created = await developer.create(
      PATH.taskRuns(BUILDS),
      { ...taskRun({ name: 'copied' }), metadata: { name: 'copied', ...forged } },
      { dryRun: 'All' },
    );
    expect(created.metadata).toMatchObject(MARKED);
    expect(created.metadata.labels).not.toHaveProperty([LABEL.assignedHost]);
  });

  test.each(MUTATION_CASES)('are right after the webhook: $name', async ({ name, metadata, spec }) => {
    const object = {
      apiVersion: 'tekton.dev/v1',
      kind: 'TaskRun',
      metadata: { generateName: 'case-', ...metadata },
      spec,
    };
    const sent = developer.request('POST', PATH.taskRuns(BUILDS), { query: { dryRun: 'All' }, body: object });
    const status = await sent.then(
      () => 201,
      (error: unknown) => (error instanceof KubeError ? error.status : 0),
    );
    expect(status).toBe(LEFT_FORGED.has(name) ? 403 : 201);
  });

  test('can be taken off by a cluster administrator, where a TaskRun hangs', async () => {
    await developer.create(PATH.taskRuns(BUILDS), taskRun({ name: 'stuck' }));
    await sandbox.controller.stop();
    await developer.delete(PATH.taskRuns(BUILDS, 'stuck'));
    const off = { metadata: { finalizers: null } };
    await expect(developer.patch(PATH.taskRuns(BUILDS, 'stuck'), off)).rejects.toMatchObject({ status: 403 });
    const administrator = await grant('administrator', [{ apiGroups: ['*'], resources: ['*'], verbs: ['*'] }]);
    await administrator.patch(PATH.taskRuns(BUILDS, 'stuck'), off);
    expect(await ignoreNotFound(developer.get(PATH.taskRuns(BUILDS, 'stuck')))).toBeNull();
    await sandbox.controller.start();
  });

  afterAll(async () => {
    await sandbox.client.patch(PATH.taskRuns(BUILDS, 'victim'), { metadata: { finalizers: null } });
    for (const name of ['plain', 'marked', 'victim']) await builds(sandbox).delete(name);
    await builds(sandbox).gone('marked');
  });
});

describe('an upgrade', () => {
  const upgrade = (values: object, ...flags: string[]): Promise<string> =>
    installed.helm.must(['upgrade', RELEASE, CHART, '--namespace', sandbox.namespace, ...flags], {
      ...installed.values,
      ...values,
    });
  const caBundle = async (): Promise<string | undefined> => {
    const { webhooks } = await sandbox.client.get<KubeObject & { webhooks: { clientConfig: { caBundle?: string } }[] }>(
      REGISTRATION,
    );
    return webhooks[0]?.clientConfig.caBundle;
  };
  const probe = (): Promise<KubeObject> =>
    sandbox.client.create(PATH.taskRuns(BUILDS), taskRun({ name: 'probe' }), { dryRun: 'All' });

  /** What was created meanwhile. @throws what the first creation that failed was told */
  const createdDuring = async (change: () => Promise<void>): Promise<KubeObject[]> => {
    const done = new AbortController();
    const created: KubeObject[] = [];
    const creating = (async () => {
      while (!done.signal.aborted) created.push(await probe());
    })();
    try {
      await change();
    } finally {
      done.abort();
      await creating;
    }
    return created;
  };

  test.each([
    ['as Helm 4 makes it', []],
    ['as Helm 3 makes it', ['--server-side=false']],
  ])('%s keeps the caBundle and fails no creation, nor does the rollback', async (_how, flags) => {
    const before = await caBundle();
    const created = await createdDuring(async () => {
      await upgrade({ labels: { team: 'a' }, webhook: { failurePolicy: 'Fail' } }, ...flags);
      expect(await caBundle()).toBe(before);
      await installed.helm.must(['rollback', RELEASE, '--namespace', sandbox.namespace, ...flags]);
      expect(await caBundle()).toBe(before);
    });
    expect(created.length).toBeGreaterThan(10);
    expect(created.filter(({ metadata }) => !metadata.finalizers?.includes(FINALIZER))).toEqual([]);
  });

  const webhookObjects = async (): Promise<string[]> =>
    [...(await everything(sandbox.client))].filter((line) =>
      /multi-platform.*webhook|mutatingwebhook.*multi-platform/.test(line),
    );
  /** In place of the usual controller, that of the Deployment as it is now leads one build. */
  const buildWithNewController = async (name: string): Promise<string> => {
    const on = builds(sandbox);
    await sandbox.controller.stop();
    const controller = await installed.addController();
    await controller.start();
    await on.create({ name });
    const outcome = outcomeOf(await on.released(name));
    await controller.stop();
    await sandbox.controller.start();
    return outcome;
  };
  const rollBack = async (): Promise<void> => {
    // There were no Pods of the webhook meanwhile, nor their ServiceAccount.
    await sandbox.webhook.stop();
    await installed.helm.must(['rollback', RELEASE, '--namespace', sandbox.namespace]);
    await installed.restartWebhook();
    expect((await probe()).metadata.finalizers).toContain(FINALIZER);
  };

  /** In their order, what of the webhook's was deleted since then. */
  const deletedSince = async (line: number): Promise<string[]> =>
    (await auditLines(sandbox))
      .slice(line)
      .filter(({ verb, responseStatus }) => verb === 'delete' && responseStatus?.code === 200)
      .flatMap(
        ({ requestURI }) => /(mutatingwebhookconfigurations|services|deployments)(?=\/)/.exec(requestURI)?.[0] ?? [],
      );

  test('without webhook refuses no creation, leaves no object of it and tells the controller; the rollback brings all of it back', async () => {
    await upgrade({ webhook: { failurePolicy: 'Fail' } });
    const line = (await auditLines(sandbox)).length;
    await createdDuring(() => upgrade({ webhook: { enabled: false } }).then(() => {}));
    const registration = 'mutatingwebhookconfigurations';
    expect(await deletedSince(line)).toEqual([registration, registration, 'services', 'deployments']);
    expect(await webhookObjects()).toEqual([]);
    const { template } = (await installed.deployment(CONTROLLER)).spec;
    expect(template.spec.containers[0]?.args).toContain('--webhook=off');
    expect((await probe()).metadata.finalizers).toBeUndefined();
    const developer = await clientOf({ user: 'developer' });
    const asMarked = (metadata: object): object => ({
      ...taskRun({ name: 'b' }),
      metadata: { name: 'b', ...metadata },
    });
    const send = (metadata: object): Promise<KubeObject> =>
      developer.request('POST', PATH.taskRuns(BUILDS), { query: { dryRun: 'All' }, body: asMarked(metadata) });
    await expect(send({ labels: { [LABEL.assignedHost]: 'b' } })).rejects.toMatchObject({ status: 403 });
    await expect(send({ labels: { [LABEL.targetPlatform]: 'linux-s390x' } })).rejects.toMatchObject({ status: 403 });
    // Just what the webhook would have written does no harm.
    expect((await send(MARKED)).metadata).toMatchObject(MARKED);

    expect(await buildWithNewController('watched')).toBe('True');
    await rollBack();
  });

  test('to marking by policy leaves the marking to the API server; the rollback brings the webhook back', async () => {
    await upgrade({ webhook: { mode: 'policy' } });
    expect(await webhookObjects()).toEqual([]);
    await until('the policy to work', () =>
      probe().then(
        ({ metadata }) => metadata.finalizers?.includes(FINALIZER) || null,
        // For up to 5 s the API server does not know the type yet.
        () => null,
      ),
    );
    expect(await buildWithNewController('by-policy')).toBe('True');
    await rollBack();
    expect(await refusedTo(CONTROLLER)).toEqual([]);
  });

  test('brings a wiped caBundle back within a second or so', async () => {
    const operations = [{ op: 'remove', path: '/webhooks/0/clientConfig/caBundle' }];
    await sandbox.client.patch(REGISTRATION, operations, 'json');
    const startMs = performance.now();
    await until('the caBundle to be back', async () => (await caBundle()) ?? null, 10_000);
    // A second, and what a busy machine may add to it.
    expect(performance.now() - startMs).toBeLessThan(5000);
  });

  test('to one slot, so that one build runs and one waits', async () => {
    const hosts = (installed.values.hosts as { name: string }[]).map((host) => ({
      ...host,
      concurrency: host.name === 'a' ? 1 : 0,
    }));
    await upgrade({ hosts });
    const on = builds(sandbox);
    await until('the controller to take it over', async () => {
      const capacity = `multi_platform_controller_platform_pool_size{platform="linux-arm64"} 1\n`;
      return (await sandbox.controller.metrics()).includes(capacity) ? true : null;
    });
    await on.create({ name: 'runs', remote: 'sleep 600' });
    await on.running('runs');
    await on.create({ name: 'waits' });
    expect((await on.waiting('waits')).metadata.finalizers).toContain(FINALIZER);
  });
});

test('uninstalling empties hosts, lets TaskRuns go, and leaves nothing but what the user made', async () => {
  const { client, namespace, controlPlane, folder } = sandbox;
  const on = builds(sandbox);
  const uninstalling = installed.helm.run(['uninstall', RELEASE, '--namespace', namespace]);
  const path = `/apis/batch/v1/namespaces/${namespace}/jobs/${CONTROLLER}-uninstall`;
  const job = await until('the hook', () => ignoreNotFound(client.get<Workload>(path)));
  const hook = runPod({
    name: 'uninstall',
    namespace,
    template: job.spec.template,
    image: installed.image,
    controlPlane,
    folder,
  });
  // It leads no more and ends; a kubelet starts it again, and it stands by.
  await until('the controller to end', async () => (sandbox.controller.pid === 0 ? true : null));
  await sandbox.controller.launch();
  const { code, stderr, stdout } = await hook;
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toContain('let go of 2 TaskRuns');
  expect(await leftOnHosts(sandbox.hosts)).toEqual([]);
  expect(await on.leftInCluster()).toEqual([]);
  expect(outcomeOf((await on.get('waits')) ?? taskRun({ name: '' }))).toBe('Unknown');
  expect(await refusedTo(CONTROLLER)).toEqual([]);
  await on.create({ name: 'after' });
  await finishJob(client, path);
  const { code: helmCode, stderr: helmError } = await uninstalling;
  expect([helmCode, helmError]).toEqual([0, '']);
  // The Deployments are gone: their Pods end.
  await Promise.all([sandbox.controller.stop(), sandbox.webhook.stop()]);
  const mine = /^\S+ builds\/|^\S+ -\/(builds|developer|tekton-controller|administrator)$/;
  const left = [...(await everything(sandbox.client))].filter(
    (line) => !installed.before.has(line) && !mine.test(line),
  );
  expect(left).toEqual([]);
  expect(await on.leftInCluster()).toEqual([]);
  for (const name of ['runs', 'waits', 'after']) {
    await on.delete(name);
    await on.gone(name);
  }
});
