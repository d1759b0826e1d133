import path from 'node:path';

import { freePort } from '#sandbox/control-plane/free-port.ts';
import type { ManagedProcess } from '#sandbox/managed-process.ts';
import { createProgress } from '#sandbox/progress.ts';
import { ADMIN_KEY_SECRET, startSandbox, type Sandbox } from '#sandbox/sandbox.ts';
import { systemClock } from '#shared/clock.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { HOST_CONFIG_NAME } from '#shared/names.ts';

import { bundle } from '../../../image/content.ts';
import type { SuiteOptions } from './controller-suite.ts';
import { everything } from './everything.ts';
import { CHART, useHelm, type Helm } from './helm.ts';
import { createPod, writeServiceAccount, type PodTemplate } from './pod-stand-in.ts';
import { routeService } from './service-stand-in.ts';

export const RELEASE = 'mpc';
export const CONTROLLER = 'multi-platform-controller';
export const WEBHOOK = 'multi-platform-controller-webhook';

export interface Workload extends KubeObject {
  spec: { replicas?: number; template: PodTemplate };
}

/** A sandbox into which Helm has installed the product, and whose two processes are those of the Deployments in the cluster. */
export interface Installed {
  readonly sandbox: Sandbox;
  readonly helm: Helm;
  /** Folder with the content of the image. */
  readonly image: string;
  /** The values that it was installed with. */
  readonly values: Readonly<Record<string, unknown>>;
  /** What the cluster held before: `PATH NAME` of each object. */
  readonly before: ReadonlySet<string>;
  deployment(name: string): Promise<Workload>;
  /** One more controller, not started: as the Deployment says now. */
  addController(): Promise<ManagedProcess>;
  /** After its Deployment, Service and ServiceAccount were made anew. */
  restartWebhook(): Promise<void>;
}

/** `options.controllerArgs` says nothing here: the arguments are those of the Deployment. */
export async function startInstalled(options: SuiteOptions): Promise<Installed> {
  await using cleanup = new AsyncDisposableStack();
  let resources: AsyncDisposableStack = cleanup;
  const progress = createProgress({ output: process.stdout, clock: systemClock });
  const started = await startSandbox({ ...options, controller: false, webhook: false, env: process.env, progress });
  cleanup.defer(() => started.stop());
  const { client, controlPlane, namespace, folder, hosts } = started;
  const image = path.join(folder, 'image');
  await bundle(image);
  const helm = await useHelm({ kubeconfig: controlPlane.kubeconfigPath, folder });
  // Here the chart makes it.
  await client.delete(PATH.configMaps(namespace, HOST_CONFIG_NAME));
  // What a cluster with the strictest Pod Security Standard asks of each Pod.
  await client.patch(PATH.namespace(namespace), {
    metadata: { labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
  });
  const before = await everything(client);
  const values = {
    hosts: hosts.map(({ name, address, port, admin, platform, hostKey }, index) => ({
      name,
      address,
      port,
      user: admin,
      platform,
      secret: ADMIN_KEY_SECRET,
      concurrency: options.hosts[index]?.slots ?? 1,
      hostKeys: [hostKey],
    })),
    localPlatforms: options.localPlatforms ?? [],
    controller: { scanInterval: '5s' },
    webhook: { failurePolicy: 'Ignore' },
  };
  await helm.must(['install', RELEASE, CHART, '--namespace', namespace], values);

  const deployment = (name: string): Promise<Workload> =>
    client.get<Workload>(`/apis/apps/v1/namespaces/${namespace}/deployments/${name}`);
  const podOf = async (name: string, extraArgs: readonly string[] = []): Promise<ManagedProcess> => {
    const { template } = (await deployment(name)).spec;
    const pod = await createPod({ name, namespace, template, image, controlPlane, folder }, extraArgs);
    resources.defer(async () => void (await pod.stop()));
    return pod;
  };
  const webhookPort = await freePort();
  const route = async (): Promise<void> => {
    const service = await routeService({ client, namespace, service: WEBHOOK, ports: () => [webhookPort] });
    resources.defer(() => service.stop());
  };
  await route();
  const webhook = await podOf(WEBHOOK, ['--port', String(webhookPort), '--drain', '0s']);
  const controller = await podOf(CONTROLLER);
  await Promise.all([webhook.start(), controller.start()]);

  const kept = cleanup.move();
  resources = kept;
  let stopping: Promise<void> | undefined;
  const sandbox = { ...started, controller, webhook, stop: async () => await (stopping ??= kept.disposeAsync()) };
  const restartWebhook = async (): Promise<void> => {
    await route();
    await writeServiceAccount({ name: WEBHOOK, namespace, serviceAccount: WEBHOOK, controlPlane, folder });
    await webhook.start();
  };
  return { sandbox, helm, image, values, before, deployment, addController: () => podOf(CONTROLLER), restartWebhook };
}
