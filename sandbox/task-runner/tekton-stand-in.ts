import type { Clock } from '#shared/clock.ts';
import { AppError, messageOf } from '#shared/errors.ts';
import { KeyedQueue } from '#shared/keyed-queue.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound, isConflict, isForbidden, isInvalid, isNotFound } from '#shared/kubernetes/errors.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import type { Logger } from '#shared/log.ts';
import type { ObjectStore } from './object-store.ts';
import { STAND_IN_PATH } from './paths.ts';
import type { Pod } from './pod-types.ts';
import { podName, podOf } from './pod.ts';
import { resolveTaskSpec, TaskRunError } from './resolve.ts';
import {
  cancelled,
  deadlineMs,
  failedStatus,
  isCancelled,
  isDone,
  isPending,
  pendingStatus,
  statusFromPod,
  timedOut,
} from './task-run-status.ts';
import type { Task, TaskRun, TaskRunStatus, TaskSpec } from './tekton-types.ts';

export interface TektonStandInOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly taskRuns: ObjectStore<TaskRun>;
  readonly pods: ObjectStore<Pod>;
}

/** Stands in for Tekton's controller: turns TaskRuns into Pods, and what becomes of the Pods into the TaskRuns' status. */
export class TektonStandIn {
  readonly #options: TektonStandInOptions;
  readonly #queue: KeyedQueue;
  /** The status written last, by UID: what differs from it is written. */
  readonly #written = new Map<string, string>();

  constructor(options: TektonStandInOptions) {
    this.#options = options;
    this.#queue = new KeyedQueue({
      work: async (key) => {
        const againAtMs = await this.#reconcile(key);
        if (againAtMs !== undefined) this.#queue.addAfter(key, Math.max(0, againAtMs - options.clock.now()));
      },
      onError: (taskRun, error) => options.log.warn({ taskRun, err: error }, `${taskRun}: ${messageOf(error)}`),
      clock: options.clock,
    });
  }

  taskRunChanged(taskRun: TaskRun): void {
    this.#queue.add(keyOf(taskRun));
  }

  podChanged(pod: Pod): void {
    const owner = pod.metadata.ownerReferences?.find(({ kind }) => kind === 'TaskRun');
    if (owner !== undefined) this.#queue.add(`${pod.metadata.namespace ?? ''}/${owner.name}`);
  }

  /** Does what the garbage collector of a real cluster does. */
  taskRunGone({ metadata: { uid = '' } }: TaskRun): void {
    const { pods, log } = this.#options;
    this.#written.delete(uid);
    for (const { metadata } of pods.values()) {
      if (metadata.ownerReferences?.some((owner) => owner.uid === uid) !== true) continue;
      this.#deletePod(metadata.namespace ?? '', metadata.name).catch((error: unknown) => {
        log.warn({ err: error }, `the Pod ${metadata.name} is left: ${messageOf(error)}`);
      });
    }
  }

  async stop(): Promise<void> {
    await this.#queue.stop();
  }

  /** Brings it where it should be; gives when it is to be looked at again (ms since 1970), if it is. */
  async #reconcile(key: string): Promise<number | undefined> {
    const { clock, taskRuns } = this.#options;
    const taskRun = taskRuns.get(key);
    // One that is being deleted is not looked at any more, as with Tekton: its Pod goes when it is gone.
    if (taskRun === undefined || isDone(taskRun) || taskRun.metadata.deletionTimestamp !== undefined) return undefined;
    if (isCancelled(taskRun)) return await this.#fail(taskRun, cancelled(taskRun));
    if (isPending(taskRun)) {
      await this.#write(taskRun, pendingStatus(taskRun, clock.now()));
      return undefined;
    }
    const deadline = deadlineMs(taskRun);
    if (deadline !== undefined && deadline <= clock.now()) return await this.#fail(taskRun, timedOut(taskRun));
    try {
      const { pod, spec } = await this.#podAndSpec(taskRun);
      await this.#write(taskRun, statusFromPod(taskRun, pod, spec, clock.now()));
    } catch (error) {
      if (!(error instanceof TaskRunError)) throw error;
      return await this.#fail(taskRun, { reason: error.code, message: error.message });
    }
    const current = taskRuns.get(key);
    return current === undefined || isDone(current) ? undefined : deadlineMs(current);
  }

  async #podAndSpec(taskRun: TaskRun): Promise<{ pod: Pod; spec: TaskSpec }> {
    const { pods, taskRuns } = this.#options;
    const { namespace = '', uid } = taskRun.metadata;
    const name = podName(taskRun);
    const found = pods.get(`${namespace}/${name}`);
    // The Pod of an earlier TaskRun of this name may not be gone yet.
    const known = found !== undefined && isOwnedBy(found, uid) ? found : undefined;
    const { taskSpec } = taskRun.status ?? {};
    if (known !== undefined && taskRun.status?.podName === name && taskSpec !== undefined) {
      return { pod: known, spec: taskSpec };
    }
    const spec = resolveTaskSpec(taskRun, await this.#taskOf(taskRun));
    const pod = known ?? (await this.#createPod(podOf(taskRun, spec), namespace));
    if (taskRuns.get(keyOf(taskRun))?.metadata.uid !== uid) await this.#deletePod(namespace, name);
    return { pod, spec };
  }

  async #createPod(pod: Pod, namespace: string): Promise<Pod> {
    const { client } = this.#options;
    try {
      return await client.create<Pod>(PATH.pods(namespace), pod);
    } catch (error) {
      if (isConflict(error)) {
        const found = await client.get<Pod>(PATH.pods(namespace, pod.metadata.name));
        if (isOwnedBy(found, pod.metadata.ownerReferences?.[0]?.uid)) return found;
        throw new AppError('pod-exists', `the Pod ${pod.metadata.name} of an earlier TaskRun is not gone yet`, {
          cause: error,
        });
      }
      if (!isInvalid(error) && !isForbidden(error)) throw error;
      const message = `failed to create task run pod: ${messageOf(error)}`;
      throw new TaskRunError('PodCreationFailed', message, { cause: error });
    }
  }

  async #taskOf({ metadata, spec }: TaskRun): Promise<Task | null> {
    if (spec.taskRef === undefined) return null;
    const { name, kind = 'Task', resolver } = spec.taskRef;
    if (resolver !== undefined || kind !== 'Task' || name === undefined) {
      throw new TaskRunError(
        'TaskRunResolutionFailed',
        'the stand-in for Tekton finds only Tasks of the same namespace',
      );
    }
    const task = await ignoreNotFound(
      this.#options.client.get<Task>(STAND_IN_PATH.task(metadata.namespace ?? '', name)),
    );
    if (task !== null) return task;
    throw new TaskRunError('TaskRunResolutionFailed', `tasks.tekton.dev "${name}" not found`);
  }

  async #fail(taskRun: TaskRun, failure: { reason: string; message: string }): Promise<undefined> {
    const name = taskRun.status?.podName ?? '';
    await this.#write(taskRun, failedStatus(taskRun, failure, this.#options.clock.now()));
    if (name !== '') await this.#deletePod(taskRun.metadata.namespace ?? '', name);
  }

  async #write(taskRun: TaskRun, status: TaskRunStatus): Promise<void> {
    const { client, taskRuns } = this.#options;
    const { namespace = '', name, uid = '' } = taskRun.metadata;
    const text = JSON.stringify(status);
    if (this.#written.get(uid) === text) return;
    const dropped = Object.keys(taskRun.status ?? {}).filter((field) => !(field in status));
    const patch = { status: { ...Object.fromEntries(dropped.map((field) => [field, null])), ...status } };
    try {
      taskRuns.observe(await client.patch<TaskRun>(STAND_IN_PATH.taskRunStatus(namespace, name), patch));
      this.#written.set(uid, text);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  async #deletePod(namespace: string, name: string): Promise<void> {
    await ignoreNotFound(this.#options.client.delete(PATH.pods(namespace, name)));
  }
}

function isOwnedBy(pod: Pod, uid: string | undefined): boolean {
  return pod.metadata.ownerReferences?.some((owner) => owner.uid === uid) === true;
}

function keyOf({ metadata: { namespace = '', name } }: TaskRun): string {
  return `${namespace}/${name}`;
}
