import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { Leader, LEASE_NAME } from '#controller/leader.ts';
import { ensureControlPlaneAssets } from '#sandbox/control-plane/binaries.ts';
import { startControlPlane, type ControlPlane } from '#sandbox/control-plane/control-plane.ts';
import { freePort } from '#sandbox/control-plane/free-port.ts';
import type { ExecResult } from '#sandbox/hosts/host.ts';
import type { Service } from '#sandbox/process.ts';
import { systemClock } from '#shared/clock.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound } from '#shared/kubernetes/errors.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { createLog } from '#shared/log.ts';
import { DEFAULT_NAMESPACE, FINALIZER } from '#shared/names.ts';

import { bundle } from '../../image/content.ts';
import { BUILDS, taskRun, until } from './support/builds.ts';
import { everything } from './support/everything.ts';
import { CHART, useHelm, type Helm } from './support/helm.ts';
import { CONTROLLER, RELEASE, WEBHOOK, type Workload } from './support/installed.ts';
import { createPod, startPod, type PodOptions } from './support/pod-stand-in.ts';
import { routeService } from './support/service-stand-in.ts';

const JOB = `/apis/batch/v1/namespaces/${DEFAULT_NAMESPACE}/jobs/${CONTROLLER}-uninstall`;
const REGISTRATION = PATH.mutatingWebhookConfigurations(CONTROLLER);
const IN_NAMESPACE = ['--namespace', DEFAULT_NAMESPACE];

let controlPlane: ControlPlane;
let client: KubeClient;
let helm: Helm;
let folder: string;
let image: string;
let before: ReadonlySet<string>;
let lastJob = '';

beforeAll(async () => {
  const progress = { step: () => {}, update: () => {} };
  const assets = await ensureControlPlaneAssets({ env: process.env, progress });
  controlPlane = await startControlPlane({ assets, progress });
  client = controlPlane.client;
  folder = await mkdtemp(path.join(tmpdir(), 'uninstall-hook-'));
  image = path.join(folder, 'image');
  await bundle(image);
  helm = await useHelm({ kubeconfig: controlPlane.kubeconfigPath, folder });
  for (const name of [DEFAULT_NAMESPACE, BUILDS]) await client.create('/api/v1/namespaces', { metadata: { name } });
  before = await everything(client);
});

afterAll(async () => {
  await controlPlane?.stop();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

const podOptions = (name: string, { spec }: Workload): PodOptions => ({
  name,
  namespace: DEFAULT_NAMESPACE,
  template: spec.template,
  image,
  controlPlane,
  folder,
});

async function isMarked(): Promise<boolean> {
  const object = taskRun({ name: 'probe' });
  const { metadata } = await client.create(PATH.taskRuns(BUILDS), object, { dryRun: 'All' });
  return metadata.finalizers?.includes(FINALIZER) ?? false;
}

/** An API server that has just got a policy may not know the type yet, and refuses. */
const marking = (): Promise<true> => until('marking', async () => (await isMarked().catch(() => false)) || null);

/** Helm waits for the Job until {@link end} says what became of it. */
async function startUninstalling(): Promise<{ job: Workload; helmEnds: Promise<ExecResult> }> {
  const helmEnds = helm.run(['uninstall', RELEASE, ...IN_NAMESPACE]);
  const job = await until('the hook', async () => {
    const found = await ignoreNotFound(client.get<Workload>(JOB));
    return found?.metadata.uid === lastJob ? null : found;
  });
  lastJob = job.metadata.uid ?? '';
  return { job, helmEnds };
}

/** Says of the Job what its controller would say. */
async function end(what: 'Complete' | 'Failed'): Promise<void> {
  const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  const conditions = [what === 'Complete' ? 'SuccessCriteriaMet' : 'FailureTarget', what].map((type) => ({
    type,
    status: 'True',
    lastTransitionTime: now,
    lastProbeTime: now,
  }));
  const counts = what === 'Complete' ? { completionTime: now, succeeded: 1 } : { failed: 1 };
  await client.patch(`${JOB}/status`, { status: { startTime: now, ...counts, conditions } });
}

async function failUninstalling(helmEnds: Promise<ExecResult>): Promise<void> {
  await end('Failed');
  expect((await helmEnds).code).not.toBe(0);
}

/** The Job's Pod, as soon as it has ended marking: letting TaskRuns go takes some seconds more. */
async function podThatEndedMarking(job: Workload): Promise<Service> {
  const pod = await startPod(podOptions('ended-early', job));
  await until('marking to end', async () => (await ignoreNotFound(client.get(REGISTRATION))) === null || null);
  return pod;
}

async function uninstall(): Promise<string> {
  const { job, helmEnds } = await startUninstalling();
  const pod = await startPod(podOptions('uninstall', job));
  expect(await pod.exited).toEqual({ code: 0, signal: null });
  await end('Complete');
  expect(await helmEnds).toMatchObject({ code: 0, stderr: '' });
  return await readFile(pod.logPath, 'utf8');
}

async function expectNothingLeft(): Promise<void> {
  const left = [...(await everything(client))].filter((line) => !before.has(line) && !/^\S+ builds\//.test(line));
  expect(left).toEqual([]);
  expect(await isMarked()).toBe(false);
  expect((await client.get<KubeObject>(PATH.taskRuns(BUILDS, 'held'))).metadata.finalizers).toBeUndefined();
  await client.delete(PATH.taskRuns(BUILDS, 'held'));
}

const leaseSpec = async (): Promise<object> =>
  (await client.get<KubeObject & { spec: object }>(PATH.leases(DEFAULT_NAMESPACE, LEASE_NAME))).spec;

describe('an uninstallation that fails', () => {
  const stops: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    await helm.must(['install', RELEASE, CHART, ...IN_NAMESPACE]);
    const port = await freePort();
    const namespace = DEFAULT_NAMESPACE;
    const route = await routeService({ client, namespace, service: WEBHOOK, ports: () => [port] });
    stops.push(() => route.stop());
    const deployment = await client.get<Workload>(`/apis/apps/v1/namespaces/${namespace}/deployments/${WEBHOOK}`);
    const webhook = await createPod(podOptions(WEBHOOK, deployment), ['--port', String(port), '--drain', '0s']);
    stops.push(() => webhook.stop());
    await webhook.start();
    await marking();
  });

  afterAll(async () => {
    for (const stop of stops.toReversed()) await stop();
  });

  /** As the guide says it. */
  const rollBack = async (): Promise<void> => {
    const history = JSON.parse(await helm.must(['history', RELEASE, ...IN_NAMESPACE, '--output', 'json'])) as {
      revision: number;
    }[];
    await helm.must(['rollback', RELEASE, String(history.at(-1)?.revision), ...IN_NAMESPACE]);
  };

  test('before its Job ran leaves everything as it was; Helm upgrades again after a rollback, and not before', async () => {
    const { helmEnds } = await startUninstalling();
    await failUninstalling(helmEnds);
    expect(await isMarked()).toBe(true);
    // What only the Job may do nobody may afterwards.
    const roles = `/apis/rbac.authorization.k8s.io/v1/clusterroles/${CONTROLLER}-uninstall`;
    expect(await ignoreNotFound(client.get(roles))).toBeNull();
    const upgrade = ['upgrade', RELEASE, CHART, ...IN_NAMESPACE];
    expect((await helm.run(upgrade)).stderr).toContain('has no deployed releases');
    await rollBack();
    await helm.must(upgrade);
  });

  test('after its Job had ended marking is undone by a rollback, and the lease that a killed Job holds by deleting it', async () => {
    const { job, helmEnds } = await startUninstalling();
    const pod = await podThatEndedMarking(job);
    await pod.kill();
    await failUninstalling(helmEnds);
    expect(await isMarked()).toBe(false);
    await rollBack();
    await marking();

    const holderIdentity: unknown = expect.stringMatching(/^uninstall_/);
    expect(await leaseSpec()).toMatchObject({ holderIdentity, leaseDurationSeconds: 900 });
    await client.delete(PATH.leases(DEFAULT_NAMESPACE, LEASE_NAME));
    const log = createLog({ level: 'error' });
    const names = { namespace: DEFAULT_NAMESPACE, name: LEASE_NAME, identity: 'controller' };
    const leader = new Leader({ client, ...names, clock: systemClock, log });
    expect(await leader.acquire(() => {})).toBe(true);
    await leader.release();
  });

  test('because its Pod was asked to end has given the lease back; a second one goes on from there, and leaves nothing', async () => {
    await client.create(PATH.taskRuns(BUILDS), taskRun({ name: 'held' }));
    const { job, helmEnds } = await startUninstalling();
    const pod = await podThatEndedMarking(job);
    await pod.stop();
    expect(pod.exit).toEqual({ code: 1, signal: null });
    expect(await readFile(pod.logPath, 'utf8')).toMatch(/^ended by SIGTERM$/m);
    expect(await leaseSpec()).toMatchObject({ holderIdentity: '', leaseDurationSeconds: 1 });
    await failUninstalling(helmEnds);

    expect(await uninstall()).not.toMatch(/forbidden/i);
    await expectNothingLeft();
  });
});

describe.each([
  ['by policy', { webhook: { mode: 'policy' } }],
  ['by the controller itself', { webhook: { enabled: false } }],
])('an installation that marks %s', (how, values) => {
  beforeEach(async () => {
    await helm.must(['install', RELEASE, CHART, ...IN_NAMESPACE], values);
    if (how === 'by policy') await marking();
  });

  test('is uninstalled like any other: its TaskRun is let go, and nothing is left', async () => {
    const metadata = { finalizers: [FINALIZER] };
    await client.create(PATH.taskRuns(BUILDS), taskRun({ name: 'held', metadata }));
    const log = await uninstall();
    expect(log).toContain('let go of 1 TaskRuns');
    expect(log).not.toMatch(/forbidden/i);
    await expectNothingLeft();
  });
});
