#!/usr/bin/env node
import { mkdtemp, rm } from 'node:fs/promises';
import https from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

import { ensureControlPlaneAssets } from '#sandbox/control-plane/binaries.ts';
import { startControlPlane } from '#sandbox/control-plane/control-plane.ts';
import { freePort } from '#sandbox/control-plane/free-port.ts';
import { createManagedProcess } from '#sandbox/managed-process.ts';
import { createProgress } from '#sandbox/progress.ts';
import { systemClock } from '#shared/clock.ts';
import { KubeError } from '#shared/kubernetes/errors.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { DEFAULT_NAMESPACE } from '#shared/names.ts';
import { buildPolicy } from '#webhook/policy.ts';
import { buildRegistration } from '#webhook/registration.ts';

/**
 * What marking costs: the time to create a TaskRun through the real API server, one after the other, for each way of marking and for none;
 * and how many reviews a second the webhook alone answers. Each way has its turn in each round; every second round goes backwards.
 *
 *   node bench/admission.ts [ROUNDS]
 */
const ROUNDS = Number(process.argv[2] ?? 4);
const CREATES = 200;
const REVIEWS_MS = 3000;
const CONNECTIONS = 8;
const ADMISSION = '/apis/admissionregistration.k8s.io/v1';
const CONFIGURATIONS = `${ADMISSION}/mutatingwebhookconfigurations`;

const progress = createProgress({ output: process.stdout, clock: systemClock });
const assets = await ensureControlPlaneAssets({ env: process.env, progress });
await using cleanup = new AsyncDisposableStack();
const controlPlane = await startControlPlane({ assets, progress });
cleanup.defer(() => controlPlane.stop());
const folder = await mkdtemp(path.join(tmpdir(), 'bench-admission-'));
cleanup.defer(() => rm(folder, { recursive: true }));
const { client } = controlPlane;
await client.create('/api/v1/namespaces', { metadata: { name: DEFAULT_NAMESPACE } });

const port = await freePort();
const url = `https://127.0.0.1:${port}`;
const webhook = await createManagedProcess({
  name: 'webhook',
  main: fileURLToPath(new URL('../webhook/main.ts', import.meta.url)),
  args: ['--kubeconfig', controlPlane.kubeconfigPath, '--port', String(port), '--drain', '0s'],
  env: {},
  logPath: path.join(folder, 'webhook.log'),
});
cleanup.defer(() => webhook.kill());

function taskRun(platform: string | undefined): KubeObject & { spec: object } {
  const params = Array.from({ length: 8 }, (_, index) => ({ name: `param-${index}`, value: `value of ${index}` }));
  return {
    apiVersion: 'tekton.dev/v1',
    kind: 'TaskRun',
    metadata: { name: '', generateName: 'bench-', namespace: 'default', labels: { app: 'bench' } },
    spec: {
      params: platform === undefined ? params : [...params, { name: 'PLATFORM', value: platform }],
      taskRef: { name: 'build' },
    },
  };
}

async function create(platform: string | undefined): Promise<boolean> {
  const { metadata } = await client.create<KubeObject>(PATH.taskRuns('default'), taskRun(platform));
  return metadata.finalizers !== undefined;
}

/** Until a TaskRun is marked, or is not. */
async function until(marked: boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  const asked = (): Promise<boolean> =>
    create('linux/arm64').catch((error: unknown) => {
      // The API server needs some seconds before it knows the type for a policy.
      if (error instanceof KubeError && error.status === 503) return !marked;
      throw error;
    });
  while ((await asked()) !== marked) {
    if (performance.now() > deadline) throw new Error(`TaskRuns are still ${marked ? 'not ' : ''}marked`);
    await systemClock.sleep(50);
  }
}

const [policy, binding] = buildPolicy();
const withWebhook = {
  begin: async () => {
    await client.create(CONFIGURATIONS, buildRegistration({ server: { url } }));
    await webhook.start();
    await until(true);
  },
  end: async () => {
    await client.delete(`${CONFIGURATIONS}/multi-platform-controller`);
    await webhook.stop();
    await until(false);
  },
};
const ways = [
  { name: 'no marking', platform: 'linux/arm64', begin: () => until(false), end: async () => {} },
  { name: 'webhook, TaskRun without PLATFORM', platform: undefined, ...withWebhook },
  { name: 'webhook, TaskRun with PLATFORM', platform: 'linux/arm64', ...withWebhook },
  {
    name: 'webhook dead (Ignore), with PLATFORM',
    platform: 'linux/arm64',
    begin: async () => {
      await withWebhook.begin();
      await webhook.kill();
    },
    end: withWebhook.end,
  },
  {
    name: 'policy, with PLATFORM',
    platform: 'linux/arm64',
    begin: async () => {
      await client.create(`${ADMISSION}/mutatingadmissionpolicies`, policy);
      await client.create(`${ADMISSION}/mutatingadmissionpolicybindings`, binding);
      await until(true);
    },
    end: async () => {
      await client.delete(`${ADMISSION}/mutatingadmissionpolicybindings/${binding.metadata.name}`);
      await client.delete(`${ADMISSION}/mutatingadmissionpolicies/${policy.metadata.name}`);
      await until(false);
    },
  },
];

interface Round {
  p50: number;
  p99: number;
}
const rounds = new Map<string, Round[]>(ways.map(({ name }) => [name, []]));
for (let round = 0; round < ROUNDS; round++) {
  for (const way of round % 2 === 0 ? ways : ways.toReversed()) {
    progress.update(`round ${round + 1} of ${ROUNDS}: ${way.name}`);
    await way.begin();
    const tookMs: number[] = [];
    for (let index = 0; index < CREATES; index++) {
      const startMs = performance.now();
      await create(way.platform);
      tookMs.push(performance.now() - startMs);
    }
    rounds.get(way.name)?.push({ p50: percentile(tookMs, 0.5), p99: percentile(tookMs, 0.99) });
    await way.end();
  }
}
progress.update('');
console.log(`\nCreating a TaskRun, ms, ${ROUNDS} rounds of ${CREATES}\n`);
console.log('| way | p50, median of rounds | p99 | p50 of each round |\n|---|---|---|---|');
for (const [name, results] of rounds) {
  const p50 = percentile(
    results.map((result) => result.p50),
    0.5,
  ).toFixed(1);
  const p99 = percentile(
    results.map((result) => result.p99),
    0.5,
  ).toFixed(1);
  console.log(`| ${name} | ${p50} | ${p99} | ${results.map((result) => result.p50.toFixed(1)).join(', ')} |`);
}

await withWebhook.begin();
const latencies = await load();
console.log(
  `\nThe webhook alone over TLS, ${CONNECTIONS} connections: ${Math.round((latencies.length * 1000) / REVIEWS_MS)} reviews/s, ` +
    `p50 ${percentile(latencies, 0.5).toFixed(2)} ms, p99 ${percentile(latencies, 0.99).toFixed(2)} ms`,
);

/** How long each answer took, ms. */
async function load(): Promise<number[]> {
  const resource = { group: 'tekton.dev', version: 'v1', resource: 'taskruns' };
  const request = { uid: 'bench', operation: 'CREATE', resource, object: taskRun('linux/arm64') };
  const body = JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', request });
  const latenciesMs: number[] = [];
  const deadline = performance.now() + REVIEWS_MS;
  const connection = async (): Promise<void> => {
    // What is measured is the server; that its certificate is right is tested elsewhere.
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false });
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    while (performance.now() < deadline) {
      const startMs = performance.now();
      const sent = https.request(`${url}/mutate`, { method: 'POST', agent, headers });
      sent.end(body);
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- once() gives the event's arguments
      const [response] = (await once(sent, 'response')) as [IncomingMessage];
      await text(response);
      latenciesMs.push(performance.now() - startMs);
    }
    agent.destroy();
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, connection));
  return latenciesMs;
}

function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}
