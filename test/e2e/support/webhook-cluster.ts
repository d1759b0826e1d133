import { createServer, connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KubeConfig } from '@kubernetes/client-node';
import { Registry } from 'prom-client';
import { ensureControlPlaneAssets } from '#sandbox/control-plane/binaries.ts';
import { type ControlPlane, startControlPlane } from '#sandbox/control-plane/control-plane.ts';
import type { Clock } from '#shared/clock.ts';
import { KubeClient } from '#shared/kubernetes/client.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { createLog } from '#shared/log.ts';
import { DEFAULT_NAMESPACE } from '#shared/names.ts';
import { CONFIGURATION_NAME } from '#webhook/registration.ts';
import { startWebhook, type Webhook } from '#webhook/webhook.ts';

import { CHART, collectionOf, objectsOf, useHelm } from './helm.ts';
import { tokenOf } from './pod-stand-in.ts';

export const TENANT = 'tenant';
const SERVICE_ACCOUNT = 'multi-platform-controller-webhook';
const CERTIFICATE_POLICY = 'multi-platform-controller-certificate';
export const SECRET_NAME = `${SERVICE_ACCOUNT}-certificate`;
export const CONFIGURATIONS = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations';
export const CONFIGURATION = `${CONFIGURATIONS}/${CONFIGURATION_NAME}`;

export interface TaskRun extends KubeObject {
  spec: unknown;
}

export function taskRun(platform?: string, metadata: Record<string, unknown> = {}): TaskRun {
  return {
    apiVersion: 'tekton.dev/v1',
    kind: 'TaskRun',
    metadata: { generateName: 'build-', ...metadata } as KubeObject['metadata'],
    spec: {
      params: platform === undefined ? [{ name: 'IMAGE', value: 'i' }] : [{ name: 'PLATFORM', value: platform }],
      taskRef: { name: 'build' },
    },
  };
}

export interface WebhookCluster {
  controlPlane: ControlPlane;
  /** May do everything. */
  client: KubeClient;
  /** With a token of the webhook's ServiceAccount. */
  webhookKubeconfig: string;
  /** Those of the chart with other values. */
  giveRights(values: object): Promise<void>;
  stop(): Promise<void>;
}

/** A control plane with the namespaces `multi-platform-controller` and {@link TENANT}, and the webhook's rights as the chart gives them. */
export async function startWebhookCluster({ auditLog = false } = {}): Promise<WebhookCluster> {
  const progress = { step: () => {}, update: () => {} };
  const assets = await ensureControlPlaneAssets({ env: process.env, progress });
  const controlPlane = await startControlPlane({ assets, progress, auditLog });
  const { client } = controlPlane;
  for (const name of [DEFAULT_NAMESPACE, TENANT]) await client.create('/api/v1/namespaces', { metadata: { name } });
  const folder = await mkdtemp(path.join(tmpdir(), 'webhook-cluster-'));
  const giveRights = async (values: object): Promise<void> => {
    for (const object of await renderedRights(controlPlane.kubeconfigPath, folder, values)) {
      const query = { fieldManager: 'helm', force: true };
      await client.patch(`${await collectionOf(client, object)}/${object.metadata.name}`, object, 'apply', query);
    }
  };
  await giveRights({});
  const token = await tokenOf(controlPlane, DEFAULT_NAMESPACE, SERVICE_ACCOUNT);
  return {
    controlPlane,
    client,
    webhookKubeconfig: await controlPlane.kubeconfigFor({ token }),
    giveRights,
    stop: async () => {
      await controlPlane.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** ServiceAccount, Secret, roles with their bindings, and the policy that confines them. */
async function renderedRights(kubeconfig: string, folder: string, values: object): Promise<KubeObject[]> {
  const helm = await useHelm({ kubeconfig, folder });
  const objects = objectsOf(await helm.must(['template', 'mpc', CHART, '--namespace', DEFAULT_NAMESPACE], values));
  const kinds = /^(ServiceAccount|Secret|(Cluster)?Role(Binding)?)$/;
  return objects.filter(
    ({ kind = '', metadata: { name } }) =>
      (name.startsWith(SERVICE_ACCOUNT) && kinds.test(kind)) || name === CERTIFICATE_POLICY,
  );
}

export interface Replica extends Webhook {
  registry: Registry;
  /** What it logged, JSON lines. */
  log: string[];
}

/** A replica in this process, with no more rights than its own; its certificate comes from `folder` where one is given. */
export async function startReplica(
  cluster: WebhookCluster,
  clock: Clock,
  { drainMs = 0, folder }: { drainMs?: number; folder?: string } = {},
): Promise<Replica> {
  const config = new KubeConfig();
  config.loadFromFile(cluster.webhookKubeconfig);
  const client = new KubeClient({ config });
  const registry = new Registry();
  const log: string[] = [];
  const webhook = await startWebhook({
    client,
    registry,
    ports: { webhook: 0, metrics: 0, health: 0 },
    configurationName: CONFIGURATION_NAME,
    certificate: folder === undefined ? { secret: { namespace: DEFAULT_NAMESPACE, name: SECRET_NAME } } : { folder },
    drainMs,
    clock,
    log: createLog({ level: 'debug', destination: { write: (line) => log.push(line) } }),
  });
  const stop = async (): Promise<void> => {
    await webhook.stop();
    client.close();
  };
  return { ...webhook, registry, log, stop };
}

/** Requests that a replica answered, by outcome. */
export async function requestsOf({ registry }: { registry: Registry }): Promise<Record<string, number>> {
  const metric = await registry.getSingleMetric('multi_platform_controller_webhook_requests_total')?.get();
  return Object.fromEntries((metric?.values ?? []).map(({ labels, value }) => [String(labels['outcome']), value]));
}

/** Real time, shifted: a jump wakes who sleeps past its end. */
export class ShiftedClock implements Clock {
  #offsetMs: number;
  readonly #sleepers = new Set<{ untilMs: number; wake: () => void }>();

  constructor(offsetMs = 0) {
    this.#offsetMs = offsetMs;
  }

  now(): number {
    return Date.now() + this.#offsetMs;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return;
    const woken = Promise.withResolvers<void>();
    const sleeper = { untilMs: this.now() + ms, wake: woken.resolve };
    this.#sleepers.add(sleeper);
    const timer = setTimeout(woken.resolve, ms);
    signal?.addEventListener('abort', () => woken.resolve(), { once: true });
    await woken.promise;
    clearTimeout(timer);
    this.#sleepers.delete(sleeper);
  }

  setOffset(offsetMs: number): void {
    this.#offsetMs = offsetMs;
    for (const { untilMs, wake } of this.#sleepers) if (untilMs <= this.now()) wake();
  }

  advance(ms: number): void {
    this.setOffset(this.#offsetMs + ms);
  }
}

/** A stand-in for a Service: passes each new connection on to the next backend that is ready. */
export async function startServiceStandIn(
  backends: () => readonly Pick<Webhook, 'ports' | 'notReady'>[],
): Promise<{ url: string; stop(): Promise<void> }> {
  const sockets = new Set<Socket>();
  let next = 0;
  const server = createServer((client) => {
    const ready = backends().filter((backend) => backend.notReady() === null);
    const backend = ready[next++ % Math.max(1, ready.length)];
    if (backend === undefined) {
      client.destroy();
      return;
    }
    const upstream = connect(backend.ports.webhook, '127.0.0.1');
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        to.destroy();
        sockets.delete(from);
      });
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has an address and a port');
  return {
    url: `https://127.0.0.1:${address.port}`,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Waits until `check` holds; `what` says what it was waiting for. */
export async function until(what: string, check: () => boolean | Promise<boolean>, timeoutMs = 15_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`after ${timeoutMs / 1000} s still not: ${what}`);
    await sleep(20);
  }
}
