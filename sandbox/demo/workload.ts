import { readdir, readFile } from 'node:fs/promises';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { ConfigMap } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { PLATFORM_PARAM, SECRET_PREFIX } from '#shared/names.ts';
import type { SandboxHostSpec } from '../sandbox.ts';
import type { Task, TaskRun } from '../task-runner/tekton-types.ts';

export const NAMESPACE = 'demo';

/** How many primes are below two million, as any table has it. */
export const EXPECTED_OUTPUT = '148933 primes below 2000000';

export const UNKNOWN_PLATFORM = 'linux/riscv64';

/** Few slots, so that most TaskRuns have to wait. */
export const HOSTS: readonly SandboxHostSpec[] = [
  { name: 'arm64-1', platform: 'linux/arm64', slots: 2 },
  { name: 'arm64-2', platform: 'linux/arm64', slots: 2 },
  { name: 's390x-1', platform: 'linux/s390x', slots: 2 },
];

/** What is to become of a TaskRun: it builds on a host, it is told that there is none, or it is none of our business. */
export type Expectation = 'built' | 'refused' | 'untouched';

export interface Job {
  readonly name: string;
  readonly platform: string | undefined;
  readonly expectation: Expectation;
}

/** `builds` TaskRuns, two thirds of them for arm64, one for a platform that nobody has and one without a platform. */
export function jobs(builds: number): Job[] {
  const width = String(builds).length;
  return [
    ...Array.from({ length: builds }, (_, index): Job => {
      const platform = index % 3 === 2 ? 'linux/s390x' : 'linux/arm64';
      return { name: `build-${String(index + 1).padStart(width, '0')}`, platform, expectation: 'built' };
    }),
    { name: 'no-such-platform', platform: UNKNOWN_PLATFORM, expectation: 'refused' },
    { name: 'no-platform', platform: undefined, expectation: 'untouched' },
  ];
}

const IMAGE = 'any: images are not pulled here';

/** The source tree and the two Tasks: one that builds on a host, one that knows nothing of hosts. */
export async function createTasks(client: KubeClient): Promise<void> {
  const tasks = `/apis/tekton.dev/v1/namespaces/${NAMESPACE}/tasks`;
  await client.create<ConfigMap>(PATH.configMaps(NAMESPACE), {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'source', namespace: NAMESPACE },
    data: await sourceTree(),
  });
  await client.create<Task>(tasks, {
    apiVersion: 'tekton.dev/v1',
    kind: 'Task',
    metadata: { name: 'build-remotely', namespace: NAMESPACE },
    spec: {
      params: [{ name: PLATFORM_PARAM }],
      results: [{ name: 'report' }],
      steps: [
        {
          name: 'build',
          image: IMAGE,
          script: await readFile(new URL('build-remotely.sh', import.meta.url), 'utf8'),
          env: [{ name: 'RESULT', value: '$(results.report.path)' }],
          volumeMounts: [
            { name: 'ssh', mountPath: '/ssh', readOnly: true },
            { name: 'source', mountPath: '/source', readOnly: true },
          ],
        },
      ],
      volumes: [
        { name: 'ssh', secret: { secretName: `${SECRET_PREFIX}$(context.taskRun.name)`, optional: false } },
        { name: 'source', configMap: { name: 'source' } },
      ],
    },
  });
  await client.create<Task>(tasks, {
    apiVersion: 'tekton.dev/v1',
    kind: 'Task',
    metadata: { name: 'greet', namespace: NAMESPACE },
    spec: { steps: [{ name: 'greet', image: IMAGE, script: 'echo "Hello from the cluster itself."' }] },
  });
}

export async function createTaskRuns(client: KubeClient, all: readonly Job[]): Promise<void> {
  for (const job of all) await client.create<TaskRun>(PATH.taskRuns(NAMESPACE), taskRunOf(job));
}

function taskRunOf({ name, platform }: Job): TaskRun {
  return {
    apiVersion: 'tekton.dev/v1',
    kind: 'TaskRun',
    metadata: { name, namespace: NAMESPACE },
    spec: {
      taskRef: { name: platform === undefined ? 'greet' : 'build-remotely' },
      ...(platform !== undefined && { params: [{ name: PLATFORM_PARAM, value: platform }] }),
      timeout: '5m',
    },
  };
}

async function sourceTree(): Promise<Record<string, string>> {
  const folder = new URL('source/', import.meta.url);
  const names = await readdir(folder);
  const texts = await Promise.all(
    names.map(async (name) => [name, await readFile(new URL(name, folder), 'utf8')] as const),
  );
  return Object.fromEntries(texts);
}
