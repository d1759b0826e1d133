import { ANNOTATION, FINALIZER, LABEL } from '#shared/names.ts';
import type { Condition, TaskRun } from '../task-runner/tekton-types.ts';
import type { Job } from './workload.ts';

/** Where a TaskRun is. */
export type Stage = 'new' | 'queued' | 'preparing' | 'running' | 'done' | 'released';

/** What the demo has seen of one TaskRun. Times are ms since 1970, as its own watches brought the news. */
export interface Observed {
  readonly job: Job;
  stage: Stage;
  /** The label `assigned-host`, kept after it is gone. */
  host: string | undefined;
  /** Has had to wait for a slot. */
  waited: boolean;
  /** Has at any time carried a finalizer, label or annotation of ours. */
  marked: boolean;
  holdsFinalizer: boolean;
  condition: Condition | undefined;
  report: string | undefined;
  podMs: number | undefined;
  secretMs: number | undefined;
  endedMs: number | undefined;
}

export function unseen(job: Job): Observed {
  return {
    job,
    stage: 'new',
    host: undefined,
    waited: false,
    marked: false,
    holdsFinalizer: false,
    condition: undefined,
    report: undefined,
    podMs: undefined,
    secretMs: undefined,
    endedMs: undefined,
  };
}

const OUR_ANNOTATIONS: readonly string[] = [
  ANNOTATION.failedHosts,
  ANNOTATION.allocationStartTime,
  ANNOTATION.buildStartTime,
];

/** Takes in what the watch of TaskRuns says. */
export function takeIn(observed: Observed, { metadata, status }: TaskRun, nowMs: number): void {
  const { labels = {}, annotations = {}, finalizers = [] } = metadata;
  const assigned = labels[LABEL.assignedHost];
  const queued = labels[LABEL.waitingForPlatform] !== undefined;
  observed.holdsFinalizer = finalizers.includes(FINALIZER);
  observed.host = assigned ?? observed.host;
  observed.waited ||= queued;
  observed.marked ||=
    observed.holdsFinalizer ||
    queued ||
    assigned !== undefined ||
    labels[LABEL.targetPlatform] !== undefined ||
    OUR_ANNOTATIONS.some((name) => name in annotations);
  observed.condition = status?.conditions?.find(({ type }) => type === 'Succeeded');
  const report = status?.results?.find(({ name }) => name === 'report')?.value;
  if (typeof report === 'string') observed.report = report;
  const done = observed.condition?.status === 'True' || observed.condition?.status === 'False';
  if (done) observed.endedMs ??= nowMs;
  observed.stage = done
    ? observed.holdsFinalizer || assigned !== undefined
      ? 'done'
      : 'released'
    : queued
      ? 'queued'
      : observed.condition?.reason === 'Running'
        ? 'running'
        : assigned === undefined
          ? 'new'
          : 'preparing';
}
