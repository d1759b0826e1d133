import { parseGoDuration } from './duration.ts';
import { parseTerminationMessage } from './entrypoint.ts';
import type { ContainerStatus, Pod } from './pod-types.ts';
import type {
  Condition,
  ContainerState,
  ParamValue,
  ResultSpec,
  StepState,
  TaskRun,
  TaskRunResult,
  TaskRunStatus,
  TaskSpec,
} from './tekton-types.ts';

const DEFAULT_TIMEOUT_MS = 60 * 60_000;
const STEP_PREFIX = 'step-';

/** Each function gives a whole status, as Tekton would write it (pkg/pod/status.go, pkg/reconciler/taskrun/taskrun.go). */

export function isDone(taskRun: TaskRun): boolean {
  const status = succeeded(taskRun)?.status;
  return status === 'True' || status === 'False';
}

export function isCancelled(taskRun: TaskRun): boolean {
  return taskRun.spec.status === 'TaskRunCancelled';
}

export function isPending(taskRun: TaskRun): boolean {
  return taskRun.spec.status === 'TaskRunPending';
}

/** When the TaskRun's time is up, in ms since 1970; undefined where it has not started or has no timeout. */
export function deadlineMs(taskRun: TaskRun): number | undefined {
  const { startTime } = taskRun.status ?? {};
  const timeoutMs = timeoutOf(taskRun);
  return startTime === undefined || startTime === null || timeoutMs === 0
    ? undefined
    : Date.parse(startTime) + timeoutMs;
}

function timeoutOf({ spec: { timeout } }: TaskRun): number {
  return timeout === undefined ? DEFAULT_TIMEOUT_MS : parseGoDuration(timeout);
}

export function pendingStatus(taskRun: TaskRun, nowMs: number): TaskRunStatus {
  const message = `TaskRun "${taskRun.metadata.name}" is pending`;
  return { ...base(taskRun), conditions: [condition(taskRun, 'Unknown', 'TaskRunPending', message, nowMs)] };
}

/** Ends the TaskRun without asking the Pod: cancelled, timed out, not to be resolved. May become a retry. */
export function failedStatus(
  taskRun: TaskRun,
  failure: { reason: string; message: string },
  nowMs: number,
): TaskRunStatus {
  const { reason, message } = failure;
  const status = base(taskRun);
  return withRetry(
    taskRun,
    {
      ...status,
      startTime: status.startTime ?? time(nowMs),
      completionTime: time(nowMs),
      conditions: [condition(taskRun, 'False', reason, message, nowMs)],
      ...(status.steps && { steps: status.steps.map((step) => terminate(step, taskRun, reason, nowMs)) }),
    },
    nowMs,
  );
}

export function cancelled(taskRun: TaskRun): { reason: string; message: string } {
  const message = `TaskRun "${taskRun.metadata.name}" was cancelled. ${taskRun.spec.statusMessage ?? ''}`;
  return { reason: 'TaskRunCancelled', message };
}

export function timedOut(taskRun: TaskRun): { reason: string; message: string } {
  const message = `TaskRun "${taskRun.metadata.name}" failed to finish within "${taskRun.spec.timeout ?? '1h0m0s'}"`;
  return { reason: 'TaskRunTimeout', message };
}

/** What the Pod says, as the TaskRun's status. `spec` is the resolved Task. */
export function statusFromPod(taskRun: TaskRun, pod: Pod, spec: TaskSpec, nowMs: number): TaskRunStatus {
  const containers = stepContainers(pod);
  const states = containers.map(stepState);
  const complete =
    pod.status?.phase === 'Succeeded' ||
    pod.status?.phase === 'Failed' ||
    (states.length > 0 && states.every((step) => step.terminated !== undefined));
  const status: TaskRunStatus = {
    ...base(taskRun),
    podName: pod.metadata.name,
    startTime: taskRun.status?.startTime ?? time(nowMs),
    taskSpec: spec,
    ...(states.length > 0 && { steps: states }),
    conditions: [runningCondition(taskRun, pod, nowMs)],
  };
  if (!complete) return status;
  const results = resultsOf(containers, spec);
  const done: TaskRunStatus = { ...status, completionTime: time(nowMs), ...(results.length > 0 && { results }) };
  const failure = failureOf(pod, containers);
  if (failure === undefined) {
    return {
      ...done,
      conditions: [condition(taskRun, 'True', 'Succeeded', 'All Steps have completed executing', nowMs)],
    };
  }
  const conditions = [condition(taskRun, 'False', failure.reason, failure.message, nowMs)];
  return withRetry(taskRun, { ...done, conditions }, nowMs);
}

function base(taskRun: TaskRun): TaskRunStatus {
  return { ...taskRun.status, podName: taskRun.status?.podName ?? '' };
}

function withRetry(taskRun: TaskRun, status: TaskRunStatus, nowMs: number): TaskRunStatus {
  const { retriesStatus = [], ...attempt } = status;
  if (isCancelled(taskRun) || retriesStatus.length >= (taskRun.spec.retries ?? 0)) return status;
  const message = attempt.conditions?.[0]?.message ?? '';
  return {
    podName: '',
    conditions: [condition(taskRun, 'Unknown', 'ToBeRetried', message, nowMs)],
    startTime: null,
    completionTime: null,
    ...(attempt.taskSpec && { taskSpec: attempt.taskSpec }),
    ...(attempt.steps && { steps: attempt.steps }),
    retriesStatus: [...retriesStatus, attempt],
  };
}

function runningCondition(taskRun: TaskRun, pod: Pod, nowMs: number): Condition {
  if (pod.status?.phase === 'Running') {
    return condition(taskRun, 'Unknown', 'Running', 'Not all Steps in the Task have finished executing', nowMs);
  }
  return condition(taskRun, 'Unknown', 'Pending', waitingMessage(pod), nowMs);
}

function waitingMessage(pod: Pod): string {
  const unmet = pod.status?.conditions?.find(({ status }) => status !== 'True');
  if (unmet === undefined) return 'Pending';
  return `pod status "${unmet.type}":"${unmet.status}"; message: "${unmet.message ?? ''}"`;
}

function stepContainers(pod: Pod): ContainerStatus[] {
  return (pod.status?.containerStatuses ?? []).filter(({ name }) => name.startsWith(STEP_PREFIX));
}

function stepState({ name, state }: ContainerStatus): StepState {
  const { terminated } = state;
  const step = { name: name.slice(STEP_PREFIX.length), container: name };
  if (terminated === undefined) return { ...step, ...state };
  const message = parseTerminationMessage(terminated.message);
  const { message: _, ...rest } = terminated;
  const continued = message.exitCode === undefined ? undefined : 'Continued';
  return {
    ...step,
    terminated: { ...rest, exitCode: message.exitCode ?? terminated.exitCode },
    terminationReason: message.reason ?? continued ?? terminated.reason ?? '',
  };
}

function terminate(step: StepState, taskRun: TaskRun, reason: string, nowMs: number): StepState {
  const { running, waiting, ...rest } = step;
  if (running === undefined && waiting === undefined) return step;
  const terminated: NonNullable<ContainerState['terminated']> = {
    exitCode: 1,
    startedAt: running?.startedAt ?? taskRun.metadata.creationTimestamp ?? time(nowMs),
    finishedAt: time(nowMs),
    reason,
    message: `Step ${step.name} terminated as pod ${taskRun.status?.podName ?? ''} is terminated`,
  };
  return { ...rest, terminated, terminationReason: reason };
}

function failureOf(pod: Pod, containers: readonly ContainerStatus[]): { reason: string; message: string } | undefined {
  const failed = containers.find(({ state }) => (state.terminated?.exitCode ?? 0) !== 0);
  if (failed?.state.terminated !== undefined) {
    const { exitCode, reason, message } = failed.state.terminated;
    const timeout = parseTerminationMessage(message).reason === 'TimeoutExceeded';
    const why = timeout
      ? 'exited because the step exceeded the specified timeout limit'
      : `exited with code ${exitCode}${reason === undefined ? '' : `: ${reason}`}`;
    return { reason: 'StepFailed', message: `"${failed.name}" ${why}` };
  }
  if (pod.status?.phase !== 'Failed') return undefined;
  return { reason: 'Failed', message: pod.status.message ?? 'build failed for unspecified reasons.' };
}

function resultsOf(containers: readonly ContainerStatus[], spec: TaskSpec): TaskRunResult[] {
  const written = new Map<string, string>();
  for (const { state } of containers) {
    for (const [name, value] of parseTerminationMessage(state.terminated?.message).results) written.set(name, value);
  }
  return (spec.results ?? []).flatMap((result) => {
    const text = written.get(result.name);
    return text === undefined
      ? []
      : [{ name: result.name, type: result.type ?? 'string', value: valueOf(result, text) }];
  });
}

/** An array or object is written as JSON; what is not stays the text that it is. */
function valueOf({ type = 'string' }: ResultSpec, text: string): ParamValue {
  if (type === 'string') return text;
  try {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the CRD keeps any value here, and so does Tekton
    return JSON.parse(text) as ParamValue;
  } catch {
    return text;
  }
}

function succeeded(taskRun: TaskRun): Condition | undefined {
  return taskRun.status?.conditions?.find(({ type }) => type === 'Succeeded');
}

function condition(
  taskRun: TaskRun,
  status: Condition['status'],
  reason: string,
  message: string,
  nowMs: number,
): Condition {
  const before = succeeded(taskRun);
  const same = before?.status === status && before.reason === reason && before.message === message;
  const since = same ? before.lastTransitionTime : undefined;
  return { type: 'Succeeded', status, reason, message, lastTransitionTime: since ?? time(nowMs) };
}

/** Kubernetes keeps times to the second. */
export function time(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
