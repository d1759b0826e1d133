import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { runCommand } from '#sandbox/hosts/command.ts';
import type { ExecResult } from '#sandbox/hosts/host.ts';
import { createManagedProcess, type ManagedProcess } from '#sandbox/managed-process.ts';
import { startService, type Service } from '#sandbox/process.ts';
import type { ControlPlane } from '#sandbox/control-plane/control-plane.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';

/** The parts of a Deployment's or Job's Pod template that are run. */
export interface PodTemplate {
  readonly spec: {
    readonly serviceAccountName: string;
    readonly containers: readonly Container[];
  };
}

interface Container {
  readonly name: string;
  readonly args: readonly string[];
  readonly env: readonly { readonly name: string; readonly valueFrom: { readonly fieldRef: { fieldPath: string } } }[];
}

export interface PodOptions {
  readonly name: string;
  readonly namespace: string;
  readonly template: PodTemplate;
  /** What the image has in its working folder. */
  readonly image: string;
  readonly controlPlane: ControlPlane;
  /** For files that go with the Pod. */
  readonly folder: string;
}

const SCRIPT = path.join(import.meta.dirname, 'pod-stand-in.sh');

/**
 * The one container of a Pod as a process of this machine: with the arguments and variables of the template, the token of its
 * ServiceAccount where a Pod has it, as user 65532 without any capability, and with nothing that it could write to. Its ports are
 * free ones of this machine: `extraArgs` come behind the template's.
 */
export async function createPod(options: PodOptions, extraArgs: readonly string[] = []): Promise<ManagedProcess> {
  const { launcher, main, args, env } = await commandOf(options);
  const { name, folder } = options;
  const logPath = path.join(folder, `${name}.log`);
  return await createManagedProcess({ name, launcher, main, args: [...args, ...extraArgs], env, logPath });
}

/** The same for a Pod that ends by itself. */
export async function runPod(options: PodOptions): Promise<ExecResult> {
  const { launcher, main, args, env } = await commandOf(options);
  const [command, ...rest] = launcher;
  return await runCommand(command, [...rest, main, ...args], { env });
}

/** The same for one that may be ended before. Its log is all that it wrote. */
export async function startPod(options: PodOptions): Promise<Service> {
  const { launcher, main, args, env } = await commandOf(options);
  const { name, folder } = options;
  const [command, ...rest] = launcher;
  const logPath = path.join(folder, `${name}.log`);
  return await startService({ name, command, args: [...rest, main, ...args], env, logPath });
}

async function commandOf(options: PodOptions): Promise<{
  launcher: [string, ...string[]];
  main: string;
  args: readonly string[];
  env: Record<string, string>;
}> {
  const { name, namespace, template, image, controlPlane } = options;
  const [container, ...others] = template.spec.containers;
  const [main, ...args] = container?.args ?? [];
  if (container === undefined || main === undefined || others.length > 0)
    throw new Error(`the Pod ${name} is not one container with a program`);
  const fields: Readonly<Record<string, string>> = { 'metadata.name': name, 'metadata.namespace': namespace };
  const variables = container.env.map(({ name: key, valueFrom }) => [key, fields[valueFrom.fieldRef.fieldPath] ?? '']);
  const { hostname, port } = new URL(controlPlane.url);
  const unshare = ['unshare', '--mount', '--propagation', 'private', '--', '/bin/sh'] as const;
  return {
    launcher: [
      ...unshare,
      SCRIPT,
      process.execPath,
      image,
      await writeServiceAccount({ ...options, serviceAccount: template.spec.serviceAccountName }),
    ],
    main,
    args,
    env: {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      // From the Dockerfile.
      NODE_ENV: 'production',
      UV_THREADPOOL_SIZE: '32',
      KUBERNETES_SERVICE_HOST: hostname,
      KUBERNETES_SERVICE_PORT: port,
      ...Object.fromEntries(variables),
    },
  };
}

/** As a kubelet projects it, and anew where it was there. Gives the folder. */
export async function writeServiceAccount(options: {
  name: string;
  namespace: string;
  serviceAccount: string;
  controlPlane: ControlPlane;
  folder: string;
}): Promise<string> {
  const { name, namespace, serviceAccount, controlPlane, folder } = options;
  const target = path.join(folder, `${name}-service-account`);
  await mkdir(target, { recursive: true });
  // Others than root read it, and only below this folder, which is root's.
  await chmod(target, 0o755);
  const files = {
    token: await tokenOf(controlPlane, namespace, serviceAccount),
    'ca.crt': controlPlane.caPem,
    namespace,
  };
  for (const [file, text] of Object.entries(files)) await writeFile(path.join(target, file), text, { mode: 0o644 });
  return target;
}

interface TokenRequest extends KubeObject {
  spec: object;
  status?: { token: string };
}

/** A token of a ServiceAccount, good for an hour. */
export async function tokenOf({ client }: ControlPlane, namespace: string, serviceAccount: string): Promise<string> {
  const answer = await client.request<TokenRequest>(
    'POST',
    `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`,
    { body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds: 3600 } } },
  );
  if (answer.status === undefined) throw new Error(`no token for ${serviceAccount}`);
  return answer.status.token;
}
