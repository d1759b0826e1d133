import { afterAll, beforeAll, expect, test } from 'vitest';

import { createProgress } from '#sandbox/progress.ts';
import { startSandbox, type Sandbox } from '#sandbox/sandbox.ts';
import { systemClock } from '#shared/clock.ts';
import { FINALIZER } from '#shared/names.ts';
import { buildPolicy } from '#webhook/policy.ts';
import type { MutatingWebhookConfiguration } from '#webhook/registration.ts';

import { ARM, type BuildTaskRun, BUILDS, builds, leftOnHosts, outcomeOf, taskRun, until } from './support/builds.ts';
import { CONFIGURATION, CONFIGURATIONS } from './support/webhook-cluster.ts';

const ADMISSION = '/apis/admissionregistration.k8s.io/v1';
const POLICIES = `${ADMISSION}/mutatingadmissionpolicies`;
const BINDINGS = `${ADMISSION}/mutatingadmissionpolicybindings`;

let sandbox: Sandbox;
let on: ReturnType<typeof builds>;

beforeAll(async () => {
  sandbox = await startSandbox({
    hosts: [{ name: 'a', platform: ARM, slots: 3 }],
    controllerArgs: ['--scan-interval', '2s'],
    env: process.env,
    progress: createProgress({ output: process.stdout, clock: systemClock }),
  });
  on = builds(sandbox);
  await sandbox.createNamespace(BUILDS);
});

afterAll(async () => {
  await sandbox?.stop();
});

function isMarked({ metadata }: BuildTaskRun): boolean {
  return metadata.finalizers?.includes(FINALIZER) ?? false;
}

async function marksNew(): Promise<boolean> {
  const object = taskRun({ name: 'asked-only' });
  const path = `/apis/tekton.dev/v1/namespaces/${BUILDS}/taskruns`;
  return isMarked(await sandbox.client.create<BuildTaskRun>(path, object, { dryRun: 'All' }));
}

async function endedWell(names: readonly string[]): Promise<void> {
  const ended = await Promise.all(names.map((name) => on.released(name)));
  expect(ended.map(outcomeOf)).toEqual(names.map(() => 'True'));
}

async function nothingIsLeft(): Promise<void> {
  expect(await on.leftInCluster()).toEqual([]);
  expect(await leftOnHosts(sandbox.hosts)).toEqual([]);
}

test('a TaskRun that was created while the webhook was dead is unmarked, and still gets its host', async () => {
  await sandbox.webhook.kill();
  expect(isMarked(await on.create({ name: 'unmarked' }))).toBe(false);
  const without = await on.create({
    name: 'without',
    platform: null,
    spec: { taskRef: { name: 't' }, taskSpec: undefined },
  });
  expect(without.metadata.finalizers).toBeUndefined();
  await endedWell(['unmarked']);
  await sandbox.webhook.start();
  await until('TaskRuns to be marked', async () => ((await marksNew()) ? true : null));
  await nothingIsLeft();
});

test('server, off, policy, server, off: with TaskRuns in every state, none is lost and nothing points to a server that is gone', async () => {
  const configuration = await sandbox.client.get<MutatingWebhookConfiguration>(CONFIGURATION);
  const registration = { ...configuration, metadata: { name: configuration.metadata.name } };
  const [policy, binding] = buildPolicy();
  const registered = async (): Promise<number> => (await sandbox.client.list(CONFIGURATIONS)).items.length;

  const running = ['running-1', 'running-2', 'running-3'];
  for (const name of running) await on.create({ name, remote: 'sleep 12; echo built' });
  await Promise.all(running.map((name) => on.running(name)));
  await on.create({ name: 'waiting' });
  await on.waiting('waiting');

  // Off: the configuration goes before the server.
  await sandbox.client.delete(CONFIGURATION);
  expect(await sandbox.webhook.stop()).toBe(0);
  await sandbox.controller.stop();
  await sandbox.controller.start(['--webhook', 'off']);
  expect(await registered()).toBe(0);
  expect(isMarked(await on.create({ name: 'off' }))).toBe(false);
  await on.waiting('off');

  // By policy: no server at all, and the controller as with one.
  await sandbox.client.create(POLICIES, policy);
  await sandbox.client.create(BINDINGS, binding);
  await until('the policy to mark', async () => ((await marksNew().catch(() => false)) ? true : null));
  await sandbox.controller.restart();
  expect(isMarked(await on.create({ name: 'policy' }))).toBe(true);

  // A server again: first it, then the configuration without a caBundle, as an installation would have it; last the policy goes.
  for (const { clientConfig } of registration.webhooks ?? []) delete clientConfig.caBundle;
  await sandbox.client.create(CONFIGURATIONS, registration);
  await sandbox.webhook.start();
  await sandbox.client.delete(`${BINDINGS}/${binding.metadata.name}`);
  await sandbox.client.delete(`${POLICIES}/${policy.metadata.name}`);
  for (let index = 0; index < 20; index++) expect(await marksNew()).toBe(true);
  expect(isMarked(await on.create({ name: 'server' }))).toBe(true);

  await endedWell([...running, 'waiting', 'off', 'policy', 'server']);
  await sandbox.client.delete(CONFIGURATION);
  await sandbox.webhook.stop();
  expect(await registered()).toBe(0);
  expect(isMarked(await on.create({ name: 'off-again' }))).toBe(false);
  await endedWell(['off-again']);
  await nothingIsLeft();
});
