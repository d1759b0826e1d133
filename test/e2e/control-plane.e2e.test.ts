import { once } from 'node:events';
import { createServer } from 'node:net';
import { readFile, readdir, readlink, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { KubeConfig } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type ControlPlaneAssets, ensureControlPlaneAssets } from '#sandbox/control-plane/binaries.ts';
import { type ControlPlane, startControlPlane } from '#sandbox/control-plane/control-plane.ts';
import { freePort } from '#sandbox/control-plane/free-port.ts';
import { spawnTied } from '#sandbox/process.ts';
import type { Progress } from '#sandbox/progress.ts';
import { startTimeOf } from '#sandbox/run-folder.ts';
import { KubeClient } from '#shared/kubernetes/client.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';

const START_TIMEOUT_MS = 90_000;
const silent: Progress = { step: () => {}, update: () => {} };

interface TaskRun extends KubeObject {
  readonly spec: unknown;
}

const TASK_RUN: TaskRun = {
  apiVersion: 'tekton.dev/v1',
  kind: 'TaskRun',
  metadata: { name: 'build', namespace: 'default' },
  spec: {
    params: [{ name: 'PLATFORM', value: 'linux/arm64' }],
    taskSpec: { params: [{ name: 'PLATFORM' }], steps: [{ name: 'build', image: 'builder', script: 'true' }] },
  },
};

let assets: ControlPlaneAssets;
let one: ControlPlane;
let two: ControlPlane;

/** Listens on the first port that the second control plane is told to take. */
const busy = createServer();
let busyPort: number;

beforeAll(async () => {
  assets = await ensureControlPlaneAssets({ env: process.env, progress: silent });
  busyPort = await freePort();
  await once(busy.listen(busyPort, '127.0.0.1'), 'listening');
  const ports = [busyPort, await freePort()];
  [one, two] = await Promise.all([
    startControlPlane({ assets, progress: silent, auditLog: true }),
    startControlPlane({ assets, progress: silent, findPort: async () => ports.shift() ?? 0 }),
  ]);
}, 2 * START_TIMEOUT_MS);

afterAll(async () => {
  busy.close();
  await Promise.all([one.stop(), two.stop()]);
});

async function clientFor(controlPlane: ControlPlane, identity: Parameters<ControlPlane['kubeconfigFor']>[0]) {
  const config = new KubeConfig();
  config.loadFromFile(await controlPlane.kubeconfigFor(identity));
  return new KubeClient({ config });
}

/** Processes that run in the folder. */
async function processesIn(folder: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const cwds = await Promise.all(pids.map(async (pid) => await readlink(`/proc/${pid}/cwd`).catch(() => '')));
  return pids.filter((_, index) => cwds[index] === folder);
}

describe('two control planes side by side', () => {
  test('each hold their own TaskRuns', async () => {
    const created = await one.client.create<TaskRun>(PATH.taskRuns('default'), TASK_RUN);
    expect(created.metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
    expect((await one.client.list(PATH.taskRuns('default'))).items).toHaveLength(1);
    expect((await two.client.list(PATH.taskRuns('default'))).items).toEqual([]);
  });

  test('are not mistaken for each other: each has its own CA', async () => {
    const config = new KubeConfig();
    const text = await readFile(one.kubeconfigPath, 'utf8');
    config.loadFromString(text.replace(one.url, two.url));
    await expect(new KubeClient({ config }).get('/version')).rejects.toThrow(/certificate/);
  });

  test('take another port where one is taken', () => {
    expect(busy.listening).toBe(true);
    expect(two.url).not.toBe(`https://127.0.0.1:${busyPort}`);
  });
});

describe('the control plane', () => {
  test('is the Kubernetes that is pinned, which knows its version', async () => {
    expect(await one.client.request('GET', '/version')).toMatchObject({ major: '1', minor: '37' });
  });

  test('refuses a TaskRun that Tekton’s schema does not allow', async () => {
    const metadata = { name: 'invalid', namespace: 'default' };
    await expect(
      one.client.create<TaskRun>(PATH.taskRuns('default'), { ...TASK_RUN, metadata, spec: { timeout: 5 } }),
    ).rejects.toMatchObject({ status: 422, message: expect.stringContaining('spec.timeout') });
  });

  test('serves Tekton’s resources without a conversion webhook', async () => {
    const crds = await one.client.list<KubeObject & { spec: { conversion: { strategy: string } } }>(
      '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
    );
    expect(crds.items.map(({ metadata, spec }) => [metadata.name, spec.conversion.strategy])).toEqual(
      [
        'customruns.tekton.dev',
        'pipelineruns.tekton.dev',
        'pipelines.tekton.dev',
        'resolutionrequests.resolution.tekton.dev',
        'stepactions.tekton.dev',
        'taskruns.tekton.dev',
        'tasks.tekton.dev',
        'verificationpolicies.tekton.dev',
      ].map((name) => [name, 'None']),
    );
  });

  test('serves admission policies', async () => {
    const policies = '/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies';
    expect((await one.client.list(policies)).items).toEqual([]);
  });

  test('denies a user what no role allows, and allows what one does', async () => {
    const reader = await clientFor(one, { user: 'reader@example.com', groups: ['readers'] });
    await expect(reader.list(PATH.taskRuns('default'))).rejects.toMatchObject({ status: 403 });
    await allowToListConfigMaps('readers');
    await vi.waitFor(async () => await reader.list(PATH.configMaps('default')));
    await expect(reader.list(PATH.secrets('default'))).rejects.toMatchObject({ status: 403 });
  });

  test('knows ServiceAccounts by the tokens that it gives out', async () => {
    const accounts = '/api/v1/namespaces/default/serviceaccounts';
    await one.client.create(accounts, { metadata: { name: 'controller' } });
    const answer = await one.client.request<{ status: { token: string } }>('POST', `${accounts}/controller/token`, {
      body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} },
    });
    const account = await clientFor(one, { token: answer.status.token });
    await expect(account.list(PATH.secrets('default'))).rejects.toMatchObject({
      status: 403,
      message: expect.stringContaining('system:serviceaccount:default:controller'),
    });
  });

  test('refuses who shows nothing', async () => {
    const nobody = await clientFor(one, { token: 'made up' });
    await expect(nobody.list(PATH.secrets('default'))).rejects.toMatchObject({ status: 401 });
  });

  test('writes down who asked for what', async () => {
    await one.client.list(PATH.configMaps('default'));
    const lines = (await readFile(one.auditLogPath ?? '', 'utf8')).trim().split('\n');
    const events = lines.map((line): unknown => JSON.parse(line));
    expect(events).toContainEqual(
      expect.objectContaining({
        level: 'Metadata',
        verb: 'list',
        requestURI: PATH.configMaps('default'),
        user: expect.objectContaining({ username: 'sandbox-admin' }),
      }),
    );
    expect(two.auditLogPath).toBeUndefined();
  });

  test('keeps its keys and kubeconfigs from other users', async () => {
    expect((await stat(path.dirname(one.kubeconfigPath))).mode & 0o777).toBe(0o700);
    expect((await stat(one.kubeconfigPath)).mode & 0o777).toBe(0o600);
  });

  test('comes back at the same address with all that it held', { timeout: START_TIMEOUT_MS }, async () => {
    await two.client.create(PATH.configMaps('default'), { metadata: { name: 'kept' } });
    await two.killApiServer();
    await expect(two.client.get('/version')).rejects.toMatchObject({ code: 'kubernetes.unreachable' });
    await two.restartApiServer();
    expect((await two.client.get(PATH.configMaps('default', 'kept'))).metadata.name).toBe('kept');
  });
});

describe('of a control plane nothing is left', () => {
  test('when its program is missing', async () => {
    const before = await ownFolders();
    const broken = { ...assets, kubeApiServer: '/nowhere/kube-apiserver' };
    await expect(startControlPlane({ assets: broken, progress: silent })).rejects.toMatchObject({
      code: 'not-ready',
      message: expect.stringMatching(/^kube-apiserver ended with exit code 127; .*\/nowhere\/kube-apiserver/),
    });
    expect(await ownFolders()).toEqual(before);
  });

  test(
    'when its owner was killed with -9 and the next one was stopped',
    { timeout: 2 * START_TIMEOUT_MS },
    async () => {
      const here = (file: string): string => JSON.stringify(fileURLToPath(new URL(file, import.meta.url)));
      const program = `
      import { startControlPlane } from ${here('../../sandbox/control-plane/control-plane.ts')};
      const progress = { step() {}, update() {} };
      const { kubeconfigPath } = await startControlPlane({ assets: ${JSON.stringify(assets)}, progress });
      console.log(kubeconfigPath);
      setInterval(() => {}, 1000);`;
      const owner = spawnTied(process.execPath, ['--input-type=module-typescript', '--eval', program], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [chunk]: unknown[] = owner.stdout === null ? [] : await once(owner.stdout, 'data');
      const folder = path.dirname(String(chunk).trim());
      const pids = await processesIn(folder);
      expect(pids).toHaveLength(2);
      owner.kill('SIGKILL');
      await vi.waitFor(async () => {
        for (const pid of pids) expect(await startTimeOf(Number(pid))).toBeUndefined();
      });

      const next = await startControlPlane({ assets, progress: silent });
      await expect(stat(folder)).rejects.toMatchObject({ code: 'ENOENT' });
      const nextFolder = path.dirname(next.kubeconfigPath);
      expect(await processesIn(nextFolder)).toHaveLength(2);
      await Promise.all([next.stop(), next.stop()]);
      expect(await processesIn(nextFolder)).toEqual([]);
      await expect(stat(nextFolder)).rejects.toMatchObject({ code: 'ENOENT' });
    },
  );
});

async function ownFolders(): Promise<string[]> {
  return (await readdir(tmpdir())).filter((name) => name.startsWith(`mpc-sandbox-${process.pid}-`));
}

/** A role of its own: the likes of `view` are put together by kube-controller-manager, which does not run here. */
async function allowToListConfigMaps(group: string): Promise<void> {
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  const apiGroup = 'rbac.authorization.k8s.io';
  await one.client.create<KubeObject & { rules: object[] }>(`${rbac}/clusterroles`, {
    metadata: { name: group },
    rules: [{ apiGroups: [''], resources: ['configmaps'], verbs: ['list'] }],
  });
  await one.client.create<KubeObject & { roleRef: object; subjects: object[] }>(`${rbac}/clusterrolebindings`, {
    metadata: { name: group },
    roleRef: { apiGroup, kind: 'ClusterRole', name: group },
    subjects: [{ apiGroup, kind: 'Group', name: group }],
  });
}
