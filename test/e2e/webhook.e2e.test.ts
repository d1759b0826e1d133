import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '#sandbox/control-plane/free-port.ts';
import { createManagedProcess, type ManagedProcess } from '#sandbox/managed-process.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { MUTATION_CASES } from '#webhook/mutation-cases.ts';
import { buildRegistration, type FailurePolicy } from '#webhook/registration.ts';
import { toolPath } from './support/tools.ts';
import {
  CONFIGURATION,
  CONFIGURATIONS,
  SECRET_NAME,
  startWebhookCluster,
  taskRun,
  type TaskRun,
  TENANT,
  until,
  type WebhookCluster,
} from './support/webhook-cluster.ts';
import { dryRunOf, FINALIZER, isMarked, MARK, startLaterWebhook, tableFields } from './support/webhook-requests.ts';

const MAIN = fileURLToPath(new URL('../../webhook/main.ts', import.meta.url));
const V1BETA1 = `/apis/tekton.dev/v1beta1/namespaces/${TENANT}/taskruns`;

let cluster: WebhookCluster;
let webhook: ManagedProcess;
let folder: string;
let url: string;

beforeAll(async () => {
  cluster = await startWebhookCluster();
  folder = await mkdtemp(path.join(tmpdir(), 'webhook-e2e-'));
  const port = await freePort();
  url = `https://127.0.0.1:${port}`;
  await register('Ignore');
  webhook = await createManagedProcess({
    name: 'webhook',
    main: MAIN,
    args: [
      '--kubeconfig',
      cluster.webhookKubeconfig,
      '--certificate-secret',
      SECRET_NAME,
      '--drain',
      '0s',
      '--port',
      `${port}`,
    ],
    env: {},
    logPath: path.join(folder, 'webhook.log'),
  });
  await webhook.start();
  await untilMarking();
}, 120_000);

afterAll(async () => {
  await webhook.kill();
  await cluster.stop();
  await rm(folder, { recursive: true });
});

/** Replaces the registration as a `helm upgrade` would, `caBundle` lost. */
async function register(failurePolicy: FailurePolicy): Promise<void> {
  await cluster.client.delete(CONFIGURATION).catch(() => {});
  await cluster.client.create(CONFIGURATIONS, buildRegistration({ server: { url }, failurePolicy }));
}

function create(object: TaskRun, { dryRun = false } = {}): Promise<TaskRun> {
  return cluster.client.create<TaskRun>(PATH.taskRuns(TENANT), object, dryRun ? { dryRun: 'All' } : {});
}

async function untilMarking(): Promise<void> {
  await until('a TaskRun is marked', async () =>
    create(taskRun('linux/arm64'), { dryRun: true }).then(isMarked, () => false),
  );
}

/** Requests that the webhook answered, by outcome. */
async function counted(): Promise<Record<string, number>> {
  const lines = (await webhook.metrics()).matchAll(/webhook_requests_total\{outcome="(\w+)"\} (\d+)/g);
  return Object.fromEntries([...lines].map(([, outcome = '', count]) => [outcome, Number(count)]));
}

async function countedSince(before: Record<string, number>): Promise<Record<string, number>> {
  const now = await counted();
  const entries = Object.entries(now).map(([outcome, count]) => [outcome, count - (before[outcome] ?? 0)]);
  return Object.fromEntries(entries.filter(([, count]) => count !== 0));
}

describe('the table of mutations, through the API server', () => {
  test.each(MUTATION_CASES)('$name', async ({ metadata, spec, expected, warning }) => {
    const { status, object, warnings } = await dryRunOf(cluster, {
      apiVersion: 'tekton.dev/v1',
      kind: 'TaskRun',
      metadata: { generateName: 'case-', ...metadata },
      spec,
    });
    expect(status).toBe(201);
    expect(tableFields(object)).toEqual(expected);
    expect(warnings).toContain(warning ?? '');
    expect(warnings === '').toBe(warning === undefined);
  });
});

test('of 1,000 mixed TaskRuns exactly those with a platform are marked, and those without PLATFORM never reach the webhook', async () => {
  const before = await counted();
  const kinds = [
    'linux/arm64',
    undefined,
    'linux/s390x',
    'Not/A-Platform',
    undefined,
    ['linux/arm64'],
    'local',
    '',
    undefined,
    'x/y',
  ];
  const objects = Array.from({ length: 1000 }, (_, index) => {
    const kind = kinds[index % kinds.length];
    const object = taskRun('?', { name: `mixed-${index}`, generateName: undefined, labels: { run: 'mixed' } });
    const params = kind === undefined ? [{ name: 'IMAGE', value: 'i' }] : [{ name: 'PLATFORM', value: kind }];
    return { ...object, spec: { params, taskRef: { name: 'build' } } };
  });
  const queue = objects.values();
  const worker = async (): Promise<void> => {
    for (const object of queue) await create(object);
  };
  await Promise.all(Array.from({ length: 16 }, worker));

  const { items } = await cluster.client.list<TaskRun>(PATH.taskRuns(TENANT), { labelSelector: 'run=mixed' });
  const label = (object: TaskRun): string | undefined => object.metadata.labels?.[MARK];
  const expected = [
    'linux-arm64',
    undefined,
    'linux-s390x',
    undefined,
    undefined,
    undefined,
    'local',
    undefined,
    undefined,
    'x-y',
  ];
  expect(items).toHaveLength(1000);
  for (const item of items) {
    const mark = expected[Number(item.metadata.name.slice('mixed-'.length)) % expected.length];
    expect([item.metadata.name, label(item), item.metadata.finalizers]).toEqual([
      item.metadata.name,
      mark,
      mark === undefined ? undefined : [FINALIZER],
    ]);
  }
  expect(await countedSince(before)).toEqual({ marked: 400, malformed: 200 });
}, 60_000);

describe('ways of creating a TaskRun', () => {
  test('as v1beta1', async () => {
    const created = await cluster.client.create<TaskRun>(V1BETA1, {
      ...taskRun('linux/arm64'),
      apiVersion: 'tekton.dev/v1beta1',
    });
    expect(created.apiVersion).toBe('tekton.dev/v1beta1');
    expect(isMarked(created)).toBe(true);
  });

  test('by server-side apply, and applied again', async () => {
    const applied = { ...taskRun('linux/arm64'), metadata: { name: 'applied', labels: { app: 'a' } } };
    const apply = (object: object): Promise<TaskRun> =>
      cluster.client.patch(PATH.taskRuns(TENANT, 'applied'), object, 'apply', { fieldManager: 'someone' });
    expect(isMarked(await apply(applied))).toBe(true);
    const again = await apply({ ...applied, metadata: { name: 'applied', labels: { app: 'b' } } });
    expect(again.metadata.labels).toMatchObject({ app: 'b' });
    expect(isMarked(again)).toBe(true);
  });

  test('as a dry run: the answer is marked, and nothing is stored', async () => {
    const object = { ...taskRun('linux/arm64'), metadata: { name: 'dry' } };
    expect(isMarked(await create(object, { dryRun: true }))).toBe(true);
    await expect(cluster.client.get(PATH.taskRuns(TENANT, 'dry'))).rejects.toMatchObject({ status: 404 });
  });

  test('with kubectl', async () => {
    const program = await toolPath('kubectl');
    const file = path.join(folder, 'taskrun.json');
    const named = (name: string, platform: string): string =>
      JSON.stringify({ ...taskRun(platform), metadata: { name, namespace: TENANT } });
    const kubectl = async (...args: string[]): Promise<{ object: TaskRun; stderr: string }> => {
      const all = ['--kubeconfig', cluster.controlPlane.kubeconfigPath, ...args, '-f', file, '-o', 'json'];
      const { stdout, stderr } = await promisify(execFile)(program, all);
      return { object: JSON.parse(stdout), stderr };
    };
    await writeFile(file, named('kubectl', 'linux/arm64'));
    expect(isMarked((await kubectl('create', '--dry-run=server')).object)).toBe(true);
    expect(isMarked((await kubectl('apply', '--server-side')).object)).toBe(true);
    expect(isMarked((await kubectl('apply', '--server-side')).object)).toBe(true);
    await writeFile(file, named('kubectl-2', 'ARM'));
    const { object, stderr } = await kubectl('create');
    expect(object.metadata.finalizers).toBeUndefined();
    expect(stderr).toContain('Warning: spec.params PLATFORM "ARM" is not a platform');
  });
});

test('the namespaces of the system and our own are left alone', async () => {
  for (const namespace of ['kube-system', 'multi-platform-controller']) {
    const created = await cluster.client.create<TaskRun>(PATH.taskRuns(namespace), taskRun('linux/arm64'));
    expect(created.metadata.finalizers).toBeUndefined();
  }
});

test('called again after another webhook, it adds nothing twice', async () => {
  await using other = await startLaterWebhook(cluster.client);
  await until('the other webhook is called', async () =>
    other.hasSeen(await create(taskRun('linux/arm64'), { dryRun: true })),
  );
  const before = await counted();
  const created = await create(taskRun('linux/arm64'));
  expect(isMarked(created)).toBe(true);
  expect(other.hasSeen(created)).toBe(true);
  expect(await countedSince(before)).toEqual({ marked: 2 });
});

describe('when the webhook is gone', () => {
  test('with Ignore, nothing is refused: those with PLATFORM are unmarked, the others as ever', async () => {
    await webhook.kill();
    expect((await create(taskRun())).metadata.finalizers).toBeUndefined();
    const unmarked = await create(taskRun('linux/arm64'));
    expect(unmarked.metadata.finalizers).toBeUndefined();
    expect(unmarked.metadata.labels?.[MARK]).toBeUndefined();
    await webhook.start();
    await untilMarking();
  }, 30_000);

  test('with Ignore, one that hangs costs those with PLATFORM three seconds and the others nothing', async () => {
    webhook.pause();
    const startMs = performance.now();
    await create(taskRun());
    const withoutMs = performance.now() - startMs;
    expect((await create(taskRun('linux/arm64'))).metadata.finalizers).toBeUndefined();
    const withMs = performance.now() - startMs - withoutMs;
    webhook.resume();
    expect(withoutMs).toBeLessThan(1500);
    expect(withMs).toBeGreaterThan(2900);
    expect(withMs).toBeLessThan(6000);
    await untilMarking();
  }, 30_000);

  test('with Fail, those with PLATFORM are refused with a clear message, the others are created', async () => {
    await register('Fail');
    await untilMarking();
    await webhook.kill();
    expect((await create(taskRun())).metadata.name).toMatch(/^build-/);
    await expect(create(taskRun('linux/arm64'))).rejects.toThrow(
      /failed calling webhook "taskruns\.multi-platform-controller\.appstudio\.io".*connection refused/,
    );
    await webhook.start();
    await untilMarking();
    await register('Ignore');
    await untilMarking();
  }, 30_000);
});

describe('the process', () => {
  test('says on /readyz why it is not ready, and is ready again when that is over', async () => {
    const ready = async (): Promise<string> => (await fetch(`http://127.0.0.1:${webhook.healthPort}/readyz`)).text();
    expect(await ready()).toBe('ok\n');
    await cluster.client.delete(CONFIGURATION);
    await until('not ready', async () => (await ready()).startsWith('there is no MutatingWebhookConfiguration'));
    await register('Ignore');
    await until('ready', async () => (await ready()) === 'ok\n');
  });

  test('wrote no key into its log', async () => {
    const log = await webhook.log();
    expect(log).toContain('wrote the caBundle');
    expect(log).not.toMatch(/PRIVATE KEY|LS0tLS1CRUdJTi/);
  });

  test('ends with 0 on SIGTERM', async () => {
    expect(await webhook.stop()).toBe(0);
    await webhook.start();
  }, 30_000);

  test('says in one line which port is taken and which flag gives another', async () => {
    const port = new URL(url).port;
    const args = [
      '--kubeconfig',
      cluster.webhookKubeconfig,
      '--metrics-port',
      '0',
      '--health-port',
      '0',
      '--port',
      port,
    ];
    const failed = promisify(execFile)(process.execPath, [MAIN, ...args]);
    await expect(failed).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(new RegExp(`^cannot listen on port ${port}, give another with --port: [^\n]+\n$`)),
    });
  });
});
