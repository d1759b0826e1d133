import { describe, expect, it } from 'vitest';
import { formatTerminationMessage } from './entrypoint.ts';
import {
  cancelled,
  deadlineMs,
  failedStatus,
  isDone,
  pendingStatus,
  statusFromPod,
  timedOut,
} from './task-run-status.ts';
import type { ContainerState, TaskRunStatus } from './tekton-types.ts';
import { podWith, taskRunWith } from './testing.ts';

const NOW = Date.parse('2026-01-01T00:01:00.500Z');
const STARTED = '2026-01-01T00:00:30Z';
const running: ContainerState = { running: { startedAt: STARTED } };

function ended(exitCode: number, results: Record<string, string> = {}, reason?: string): ContainerState {
  const message = formatTerminationMessage({ results: new Map(Object.entries(results)), reason });
  return { terminated: { exitCode, reason: exitCode === 0 ? 'Completed' : 'Error', message, startedAt: STARTED } };
}

describe('the status of a TaskRun', () => {
  it('waits while its Pod does', () => {
    expect(statusFromPod(taskRunWith({}), podWith('Pending'), { steps: [] }, NOW)).toEqual({
      podName: 'run-pod',
      startTime: '2026-01-01T00:01:00Z',
      taskSpec: { steps: [] },
      conditions: [
        {
          type: 'Succeeded',
          status: 'Unknown',
          reason: 'Pending',
          message: 'Pending',
          lastTransitionTime: '2026-01-01T00:01:00Z',
        },
      ],
    });
  });

  it('says what holds the Pod', () => {
    const pod = podWith('Pending');
    pod.status = { phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False', message: 'gated' }] };
    const { conditions } = statusFromPod(taskRunWith({}), pod, {}, NOW);
    expect(conditions?.[0]?.message).toBe('pod status "PodScheduled":"False"; message: "gated"');
  });

  it('runs with its Pod', () => {
    const status = statusFromPod(taskRunWith({}), podWith('Running', { a: ended(0), b: running }), {}, NOW);
    expect(status.conditions?.[0]).toMatchObject({ status: 'Unknown', reason: 'Running' });
    expect(status.steps).toEqual([
      {
        name: 'a',
        container: 'step-a',
        terminated: { exitCode: 0, reason: 'Completed', startedAt: STARTED },
        terminationReason: 'Completed',
      },
      { name: 'b', container: 'step-b', ...running },
    ]);
    expect(status.completionTime).toBeUndefined();
  });

  it('succeeds with the results of all steps, read as their type says', () => {
    const pod = podWith('Succeeded', {
      a: ended(0, { text: '["x"]', list: '["x"]' }),
      b: ended(0, { list: '["y"]', other: '' }),
    });
    const results = [{ name: 'text' }, { name: 'list', type: 'array' as const }, { name: 'missing' }];
    const status = statusFromPod(taskRunWith({}), pod, { results }, NOW);
    expect(status).toMatchObject({
      completionTime: '2026-01-01T00:01:00Z',
      conditions: [{ status: 'True', reason: 'Succeeded' }],
      results: [
        { name: 'text', type: 'string', value: '["x"]' },
        { name: 'list', type: 'array', value: ['y'] },
      ],
    });
    expect(isDone(taskRunWith({}, status))).toBe(true);
  });

  it('fails with the first step that failed', () => {
    const pod = podWith('Failed', { a: ended(0), b: ended(7), c: ended(1, {}, 'Skipped') });
    const status = statusFromPod(taskRunWith({}), pod, {}, NOW);
    expect(status.conditions?.[0]).toMatchObject({
      status: 'False',
      reason: 'StepFailed',
      message: '"step-b" exited with code 7: Error',
    });
    expect(status.steps?.map(({ terminationReason }) => terminationReason)).toEqual(['Completed', 'Error', 'Skipped']);
  });

  it('says when a step took too long', () => {
    const status = statusFromPod(taskRunWith({}), podWith('Failed', { a: ended(137, {}, 'TimeoutExceeded') }), {}, NOW);
    expect(status.conditions?.[0]?.message).toBe(
      '"step-a" exited because the step exceeded the specified timeout limit',
    );
  });

  it('shows the exit code of a step that may fail, and goes on', () => {
    const message = formatTerminationMessage({ results: new Map(), exitCode: 3 });
    const pod = podWith('Succeeded', { a: { terminated: { exitCode: 0, reason: 'Completed', message } } });
    const status = statusFromPod(taskRunWith({}), pod, {}, NOW);
    expect(status.conditions?.[0]?.status).toBe('True');
    expect(status.steps?.[0]).toMatchObject({ terminated: { exitCode: 3 }, terminationReason: 'Continued' });
  });

  it('is tried again while there are retries', () => {
    const run = taskRunWith({ retries: 1 }, { podName: 'run-pod', startTime: STARTED });
    const first = statusFromPod(run, podWith('Failed', { a: ended(1) }), { steps: [] }, NOW);
    expect(first).toMatchObject({
      podName: '',
      startTime: null,
      conditions: [{ status: 'Unknown', reason: 'ToBeRetried' }],
      retriesStatus: [{ podName: 'run-pod', conditions: [{ status: 'False' }] }],
    });
    const second = statusFromPod(taskRunWith({ retries: 1 }, first), podWith('Failed', { a: ended(1) }), {}, NOW);
    expect(second.conditions?.[0]?.status).toBe('False');
  });

  it('is cancelled with the steps that ran, and not tried again', () => {
    const before: TaskRunStatus = {
      podName: 'run-pod',
      startTime: STARTED,
      steps: [{ name: 'a', container: 'step-a', ...running }],
    };
    const run = taskRunWith({ status: 'TaskRunCancelled', statusMessage: 'why', retries: 3 }, before);
    const status = failedStatus(run, cancelled(run), NOW);
    expect(status).toMatchObject({
      podName: 'run-pod',
      completionTime: '2026-01-01T00:01:00Z',
      conditions: [{ status: 'False', reason: 'TaskRunCancelled', message: 'TaskRun "run" was cancelled. why' }],
    });
    expect(status.steps).toEqual([
      {
        name: 'a',
        container: 'step-a',
        terminated: {
          exitCode: 1,
          reason: 'TaskRunCancelled',
          startedAt: STARTED,
          finishedAt: '2026-01-01T00:01:00Z',
          message: 'Step a terminated as pod run-pod is terminated',
        },
        terminationReason: 'TaskRunCancelled',
      },
    ]);
  });

  it('has a Pod name even where there was no Pod: the CRD wants one', () => {
    const run = taskRunWith({ timeout: '1s' });
    expect(failedStatus(run, timedOut(run), NOW).podName).toBe('');
    expect(pendingStatus(run, NOW).podName).toBe('');
  });

  it('keeps the time of a condition that has not changed', () => {
    const first = statusFromPod(taskRunWith({}), podWith('Pending'), {}, NOW);
    const second = statusFromPod(taskRunWith({}, first), podWith('Pending'), {}, NOW + 5000);
    expect(second).toEqual(first);
  });
});

describe('the deadline of a TaskRun', () => {
  const status = { podName: '', startTime: STARTED };
  it.each<[string | undefined, number | undefined]>([
    ['30s', Date.parse('2026-01-01T00:01:00Z')],
    ['1h2m', Date.parse('2026-01-01T01:02:30Z')],
    [undefined, Date.parse('2026-01-01T01:00:30Z')],
    ['0', undefined],
    ['0s', undefined],
  ])('with timeout %s is %s', (timeout, expected) => {
    expect(deadlineMs(taskRunWith(timeout === undefined ? {} : { timeout }, status))).toBe(expected);
  });

  it('is none before it has started', () => {
    expect(deadlineMs(taskRunWith({ timeout: '1s' }))).toBeUndefined();
  });
});
