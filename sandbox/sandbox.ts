import { rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { generateKeyPair } from '#controller/host/keys.ts';
import { systemClock } from '#shared/clock.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound } from '#shared/kubernetes/errors.ts';
import type { ConfigMap, KubeObject, Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { createLog } from '#shared/log.ts';
import { DEFAULT_NAMESPACE, HOST_CONFIG_NAME } from '#shared/names.ts';
import { buildRegistration } from '#webhook/registration.ts';
import { ensureControlPlaneAssets } from './control-plane/binaries.ts';
import { type ControlPlane, startControlPlane } from './control-plane/control-plane.ts';
import { freePort } from './control-plane/free-port.ts';
import { hostConfigData, hostConfigMap } from './host-config.ts';
import type { Host, HostKind, HostSpec } from './hosts/host.ts';
import { startHosts } from './hosts/start-hosts.ts';
import { orAborted } from './interrupt.ts';
import { createManagedProcess, type ManagedProcess } from './managed-process.ts';
import type { Progress } from './progress.ts';
import { createRunFolder, removeStaleRunFolders } from './run-folder.ts';
import { startTaskRunner, type TaskRunner } from './task-runner/stand-in.ts';

const ROOT_FOLDER = fileURLToPath(new URL('..', import.meta.url));

/** Name of the Secret with the key of the hosts' admin, in the installation's namespace. */
export const ADMIN_KEY_SECRET = 'host-admin-key';

export interface SandboxHostSpec extends HostSpec {
  /** How many TaskRuns it takes at once. */
  readonly slots: number;
}

export interface SandboxOptions {
  readonly hosts: readonly SandboxHostSpec[];
  /** The variables of the user's environment. */
  readonly env: NodeJS.ProcessEnv;
  readonly progress: Progress;
  /** Default: `auto`. */
  readonly hostKind?: HostKind | 'auto';
  /** What of the sandbox to start; default: all. What is not started can be started later. */
  readonly webhook?: boolean;
  readonly controller?: boolean;
  readonly taskRunner?: boolean;
  readonly localPlatforms?: readonly string[];
  /** Besides those that say where things are. */
  readonly controllerArgs?: readonly string[];
  readonly webhookArgs?: readonly string[];
  /** Makes the start fail with its reason, after what has been started is stopped. */
  readonly signal?: AbortSignal;
  /** Has each request to the API server written to `controlPlane.auditLogPath`. */
  readonly auditLog?: boolean;
}

/** A whole cluster on this machine, as far as the product sees one. */
export interface Sandbox {
  readonly controlPlane: ControlPlane;
  /** May do everything. */
  readonly client: KubeClient;
  /** Where the product is installed. */
  readonly namespace: string;
  readonly hosts: readonly Host[];
  readonly hostKind: HostKind;
  readonly controller: ManagedProcess;
  readonly webhook: ManagedProcess;
  readonly taskRunner: TaskRunner | undefined;
  /** For files that are to go with the sandbox; holds `controller.log` and `webhook.log`. */
  readonly folder: string;
  /** The private key of the hosts' admin, OpenSSH format. */
  readonly adminKey: string;
  /** Starts one more host; it is not in `host-config` before {@link Sandbox.writeHostConfig}. */
  addHost(spec: SandboxHostSpec): Promise<Host>;
  /** Lists all hosts, with what `change` makes of the data, in the ConfigMap `host-config`. */
  writeHostConfig(change?: (data: Record<string, string>) => Record<string, string>): Promise<void>;
  /** One more controller or webhook, not started: a second replica, say. It goes with the sandbox. */
  addProcess(kind: 'controller' | 'webhook', name: string): Promise<ManagedProcess>;
  createNamespace(name: string): Promise<void>;
  /** Ends all of it and leaves nothing. May be called again. */
  stop(): Promise<void>;
}

/**
 * Starts control plane, hosts, webhook, controller and task runner, in some 6 s with all programs in the cache. Where one of them
 * fails, or `signal` is aborted, all is stopped.
 */
export async function startSandbox(options: SandboxOptions): Promise<Sandbox> {
  const { env, progress, signal, hosts: specs } = options;
  await removeStaleRunFolders();
  await using cleanup = new AsyncDisposableStack();
  const folder = await createRunFolder('sandbox');
  cleanup.defer(async () => await rm(folder, { recursive: true, force: true }));
  const adminKey = await generateKeyPair('ed25519');

  const assets = await orAborted(ensureControlPlaneAssets({ env, progress }), signal);
  const [hosts, controlPlane] = await both(
    cleanup,
    startHosts({
      kind: options.hostKind ?? 'auto',
      hosts: specs,
      adminPublicKey: adminKey.publicKey,
      progress: (line) => progress.step(line),
    }),
    startControlPlane({ assets, progress, ...(options.auditLog === true && { auditLog: true }) }),
  );
  signal?.throwIfAborted();
  const { client } = controlPlane;
  const namespace = DEFAULT_NAMESPACE;
  const slots = new Map(specs.map((spec) => [spec.name, spec.slots]));
  const writeHostConfig: Sandbox['writeHostConfig'] = async (change = (data) => data) => {
    const entries = hosts.hosts.map((host) => ({ host, slots: slots.get(host.name) ?? 1, secret: ADMIN_KEY_SECRET }));
    const wanted = hostConfigMap(namespace, change(hostConfigData(entries, options.localPlatforms)));
    const url = PATH.configMaps(namespace, HOST_CONFIG_NAME);
    if ((await ignoreNotFound(client.get(url))) === null)
      await client.create<ConfigMap>(PATH.configMaps(namespace), wanted);
    else await client.replace<ConfigMap>(url, wanted);
  };
  const createNamespace = async (name: string): Promise<void> => {
    await client.create('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  };

  await createNamespace(namespace);
  await client.create<Secret>(PATH.secrets(namespace), {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: ADMIN_KEY_SECRET, namespace },
    stringData: { id_rsa: adminKey.privateKey },
  });
  await writeHostConfig();

  let resources: AsyncDisposableStack = cleanup;
  const webhookPort = await freePort();
  const addProcess: Sandbox['addProcess'] = async (kind, name) => {
    const ownArgs =
      kind === 'controller'
        ? ['--webhook', options.webhook === false ? 'off' : 'on', ...(options.controllerArgs ?? [])]
        : ['--port', String(webhookPort), '--drain', '0s', ...(options.webhookArgs ?? [])];
    const added = await createManagedProcess({
      name,
      main: path.join(ROOT_FOLDER, kind, 'main.ts'),
      args: ['--kubeconfig', controlPlane.kubeconfigPath, '--namespace', namespace, ...ownArgs],
      env: { PATH: env['PATH'] },
      logPath: path.join(folder, `${name}.log`),
    });
    resources.defer(async () => void (await added.stop()));
    return added;
  };
  const webhook = await addProcess('webhook', 'webhook');
  const controller = await addProcess('controller', 'controller');
  if (options.webhook !== false) {
    await client.create<KubeObject>(
      '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations',
      buildRegistration({ server: { url: `https://127.0.0.1:${webhookPort}` } }),
    );
  }
  const started = performance.now();
  const starting = [
    ...(options.webhook === false ? [] : [webhook.start()]),
    ...(options.controller === false ? [] : [controller.start()]),
  ];
  await orAborted(Promise.all(starting), signal);
  progress.step(`webhook and controller ready in ${((performance.now() - started) / 1000).toFixed(1)} s`);

  let taskRunner: TaskRunner | undefined;
  if (options.taskRunner !== false) {
    const log = createLog({
      level: 'warn',
      destination: { write: (line) => progress.step(`task runner: ${line.trim()}`) },
    });
    const runner = await startTaskRunner({ client, folder: path.join(folder, 'task-runner'), clock: systemClock, log });
    cleanup.defer(async () => await runner.stop());
    progress.step(runner.description);
    taskRunner = runner;
  }

  const kept = cleanup.move();
  resources = kept;
  let stopping: Promise<void> | undefined;
  return {
    controlPlane,
    client,
    namespace,
    hosts: hosts.hosts,
    hostKind: hosts.kind,
    controller,
    webhook,
    taskRunner,
    folder,
    adminKey: adminKey.privateKey,
    addHost: async (spec) => {
      slots.set(spec.name, spec.slots);
      return await hosts.add(spec);
    },
    writeHostConfig,
    addProcess,
    createNamespace,
    stop: async () => await (stopping ??= kept.disposeAsync()),
  };
}

/** Both, or none: where one fails the other is stopped before the error goes on. */
async function both<A extends Stoppable, B extends Stoppable>(
  cleanup: AsyncDisposableStack,
  a: Promise<A>,
  b: Promise<B>,
): Promise<[A, B]> {
  const settled = await Promise.allSettled([a, b]);
  for (const result of settled) {
    if (result.status === 'fulfilled') cleanup.defer(async () => void (await result.value.stop()));
  }
  return await Promise.all([a, b]);
}

interface Stoppable {
  stop(): Promise<unknown>;
}
