import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '#shared/clock.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import type { Logger } from '#shared/log.ts';
import { createFolderRuntime } from './folder-runtime.ts';
import { KubeletStandIn } from './kubelet-stand-in.ts';
import { createNamespaceRuntime } from './namespace-runtime.ts';
import { ObjectStore } from './object-store.ts';
import type { Pod } from './pod-types.ts';
import { TASK_RUN_LABEL } from './pod.ts';
import { TektonStandIn } from './tekton-stand-in.ts';
import type { TaskRun } from './tekton-types.ts';

export interface TaskRunnerOptions {
  readonly client: KubeClient;
  /** Gets the steps' logs and a mount point. */
  readonly folder: string;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface TaskRunner {
  /** What it is and how steps run, for a person. */
  readonly description: string;
  /** What the steps of a TaskRun have written so far, retries included; empty where there is nothing. */
  logOf(namespace: string, taskRun: string): Promise<string>;
  /** Kills all Pods and writes nothing any more. May be called again. */
  stop(): Promise<void>;
}

/**
 * A stand-in for Tekton's controller, the scheduler, the kubelet and the garbage collector: it does to the API server's objects
 * what they do, as far as TaskRuns need it, and runs steps as processes of this machine.
 */
export async function startTaskRunner({ client, folder, clock, log }: TaskRunnerOptions): Promise<TaskRunner> {
  const isRoot = process.platform === 'linux' && process.getuid?.() === 0;
  const runtime = isRoot
    ? createNamespaceRuntime(path.join(folder, 'pod'))
    : createFolderRuntime(path.join(folder, 'pods'));
  const logs = path.join(folder, 'logs');
  const shared = { client, clock, log };

  const pods: ObjectStore<Pod> = new ObjectStore<Pod>({
    ...shared,
    path: PATH.pods(),
    onSet: (pod, previous) => {
      kubelet.podChanged(pod, previous);
      tekton.podChanged(pod);
    },
    onDelete: (pod) => {
      kubelet.podGone(pod);
      tekton.podChanged(pod);
    },
  });
  const taskRuns: ObjectStore<TaskRun> = new ObjectStore<TaskRun>({
    ...shared,
    path: PATH.taskRuns(),
    onSet: (taskRun) => tekton.taskRunChanged(taskRun),
    onDelete: (taskRun) => tekton.taskRunGone(taskRun),
  });
  const kubelet = new KubeletStandIn({
    ...shared,
    runtime,
    logPath: ({ metadata }, container) => {
      const taskRun = metadata.labels?.[TASK_RUN_LABEL] ?? metadata.name;
      return path.join(logs, metadata.namespace ?? '', taskRun, metadata.name, `${container}.log`);
    },
  });
  const tekton = new TektonStandIn({ ...shared, taskRuns, pods });
  await Promise.all([pods.start(), taskRuns.start()]);

  let stopping: Promise<void> | undefined;
  return {
    description: `stand-in for Tekton and the kubelet: ${runtime.description}`,
    logOf: (namespace, taskRun) => readLogs(path.join(logs, namespace, taskRun)),
    stop: async () => {
      stopping ??= (async () => {
        await Promise.all([pods.stop(), taskRuns.stop()]);
        await tekton.stop();
        await kubelet.stop();
      })();
      await stopping;
    },
  };
}

async function readLogs(folder: string): Promise<string> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const files = names.filter((name) => name.endsWith('.log')).toSorted();
  const texts = await Promise.all(files.map((file) => readFile(path.join(folder, file), 'utf8')));
  return texts.join('');
}
