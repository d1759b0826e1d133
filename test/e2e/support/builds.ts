import { setTimeout as sleep } from 'node:timers/promises';

import { quote } from '#controller/host/quote.ts';
import type { Host } from '#sandbox/hosts/host.ts';
import type { Sandbox } from '#sandbox/sandbox.ts';
import { ignoreNotFound } from '#shared/kubernetes/errors.ts';
import type { KubeObject, Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { FINALIZER, LABEL, PLATFORM_PARAM, SECRET_PREFIX } from '#shared/names.ts';

export const BUILDS = 'builds';
export const ARM = 'linux/arm64';

export interface BuildTaskRun extends KubeObject {
  spec: Record<string, unknown>;
  status?: {
    podName?: string;
    completionTime?: string;
    conditions?: { type: string; status: string; reason?: string; message?: string }[];
  };
}

export interface Build {
  readonly name: string;
  /** Default: {@link BUILDS}. */
  readonly namespace?: string;
  /** The parameter PLATFORM as it is; null for none. Default: {@link ARM}. */
  readonly platform?: unknown;
  /** Run on the host. Default: leaves a file and takes a third of a second. */
  readonly remote?: string;
  readonly metadata?: Record<string, unknown>;
  readonly spec?: Record<string, unknown>;
}

/** Logs in as a Task would, checking the host's key, and runs a command there. */
const stepScript = (remote: string): string => `#!/bin/sh
set -eu
if [ -f /ssh/error ]; then cat /ssh/error; exit 1; fi
if [ "$(cat /ssh/host)" = localhost ]; then echo local; exit 0; fi
install -m 0600 /ssh/id_rsa /tmp/key
ssh -i /tmp/key -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/ssh/known_hosts "$(cat /ssh/host)" ${quote(remote)}
`;

/** A TaskRun that mounts our Secret and does its work over SSH. */
export function taskRun(build: Build): BuildTaskRun {
  const {
    name,
    namespace = BUILDS,
    platform = ARM,
    remote = 'echo built > ~/result; sleep 0.3; cat ~/result',
    metadata,
    spec,
  } = build;
  return {
    apiVersion: 'tekton.dev/v1',
    kind: 'TaskRun',
    metadata: { name, namespace, ...metadata },
    spec: {
      ...(platform !== null && { params: [{ name: PLATFORM_PARAM, value: platform }] }),
      taskSpec: {
        ...(platform !== null && {
          params: [{ name: PLATFORM_PARAM, type: Array.isArray(platform) ? 'array' : 'string' }],
        }),
        steps: [
          {
            name: 'build',
            image: 'not-pulled',
            script: stepScript(remote),
            volumeMounts: [{ name: 'ssh', mountPath: '/ssh', readOnly: true }],
          },
        ],
        volumes: [{ name: 'ssh', secret: { secretName: `${SECRET_PREFIX}$(context.taskRun.name)` } }],
      },
      ...spec,
    },
  };
}

export function builds(sandbox: Sandbox) {
  const { client } = sandbox;
  const path = (name: string, namespace = BUILDS): string => PATH.taskRuns(namespace, name);
  const get = (name: string, namespace?: string): Promise<BuildTaskRun | null> =>
    ignoreNotFound(client.get<BuildTaskRun>(path(name, namespace)));
  return {
    create: (build: Build): Promise<BuildTaskRun> =>
      client.create<BuildTaskRun>(PATH.taskRuns(build.namespace ?? BUILDS), taskRun(build)),
    get,
    cancel: (name: string, namespace?: string) =>
      client.patch(path(name, namespace), { spec: { status: 'TaskRunCancelled' } }),
    delete: (name: string, namespace?: string) => client.delete(path(name, namespace)),
    secret: (name: string, namespace = BUILDS): Promise<Secret | null> =>
      ignoreNotFound(client.get<Secret>(PATH.secrets(namespace, SECRET_PREFIX + name))),
    /** Waits until it has ended and nothing of ours is on it any more. */
    released: (name: string, namespace?: string): Promise<BuildTaskRun> =>
      until(`TaskRun ${name} to end and be released`, async () => {
        const found = await get(name, namespace);
        return found !== null && outcomeOf(found) !== 'Unknown' && !isMarked(found) ? found : null;
      }),
    running: (name: string, namespace?: string): Promise<BuildTaskRun> =>
      until(`TaskRun ${name} to have its host and Secret`, async () => {
        const found = await get(name, namespace);
        if (found?.metadata.labels?.[LABEL.assignedHost] === undefined) return null;
        return (await ignoreNotFound(client.get(PATH.secrets(namespace ?? BUILDS, SECRET_PREFIX + name)))) === null
          ? null
          : found;
      }),
    waiting: (name: string, namespace?: string): Promise<BuildTaskRun> =>
      until(`TaskRun ${name} to wait`, async () => {
        const found = await get(name, namespace);
        return found?.metadata.labels?.[LABEL.waitingForPlatform] === undefined ? null : found;
      }),
    gone: (name: string, namespace?: string): Promise<true> =>
      until(`TaskRun ${name} to be gone`, async () => ((await get(name, namespace)) === null ? true : null)),
    events: async (name: string, namespace = BUILDS): Promise<{ reason: string; message: string }[]> => {
      const list = await client.list<KubeObject & { reason: string; message: string }>(PATH.events(namespace), {
        fieldSelector: `involvedObject.name=${name}`,
      });
      return list.items.map(({ reason, message }) => ({ reason, message }));
    },
    log: (name: string, namespace = BUILDS): Promise<string> =>
      sandbox.taskRunner?.logOf(namespace, name) ?? Promise.resolve(''),
    /** Secrets and finalizers of ours that are left anywhere in the cluster. */
    leftInCluster: async (): Promise<string[]> => {
      const secrets = await client.list(PATH.secrets(), { labelSelector: LABEL.multiPlatformSecret });
      const taskRuns = await client.list(PATH.taskRuns());
      return [
        ...secrets.items.map(({ metadata }) => `Secret ${metadata.namespace}/${metadata.name}`),
        ...taskRuns.items
          .filter(isMarked)
          .map(({ metadata }) => `marks on TaskRun ${metadata.namespace}/${metadata.name}`),
      ];
    },
  };
}

/** `True`, `False` or `Unknown`. */
export function outcomeOf({ status }: BuildTaskRun): string {
  return status?.conditions?.find(({ type }) => type === 'Succeeded')?.status ?? 'Unknown';
}

function isMarked({ metadata }: KubeObject): boolean {
  const { labels = {}, finalizers = [] } = metadata;
  return finalizers.includes(FINALIZER) || LABEL.assignedHost in labels || LABEL.waitingForPlatform in labels;
}

/** Asks again and again until there is an answer. The state of another process can only be polled. */
export async function until<T>(what: string, probe: () => Promise<T | null>, timeoutMs = 100_000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const found = await probe();
    if (found !== null) return found;
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs / 1000} s for ${what}`);
    await sleep(100);
  }
}

/** Counts accounts on the host itself, all the time, until `stop`: the most there ever were at once. */
export function watchAccounts(host: Host): { stop(): Promise<number> } {
  const flag = `/run/watch-accounts.${Math.random().toString(16).slice(2)}`;
  const script = `max=0; touch ${flag}; while [ -e ${flag} ]; do n=$(grep -c '^u-' /etc/passwd); [ "$n" -gt "$max" ] && max=$n; sleep 0.05; done; echo "$max"`;
  const result = host.exec(['sh', '-c', script]);
  return {
    stop: async () => {
      await host.exec(['rm', '-f', flag]);
      const { stdout } = await result;
      return Number(stdout.trim());
    },
  };
}

export async function leftOnHosts(hosts: readonly Host[]): Promise<string[]> {
  const lines: string[] = [];
  for (const host of hosts) {
    for (const account of await host.accounts()) lines.push(`${host.name}: account ${account}`);
    for (const home of await host.homes()) lines.push(`${host.name}: home ${home}`);
    for (const line of await host.leftovers()) lines.push(`${host.name}: ${line}`);
  }
  return lines;
}
