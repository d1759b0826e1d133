import { describe, expect, it } from 'vitest';
import { FINALIZER, LABEL } from '#shared/names.ts';
import type { ObjectMeta } from '#shared/kubernetes/objects.ts';
import type { TaskRunStatus } from '../task-runner/tekton-types.ts';
import { type Observed, takeIn, unseen } from './observed.ts';

const platformLabel = { [LABEL.targetPlatform]: 'linux-arm64' };
const assigned = { ...platformLabel, [LABEL.assignedHost]: 'arm64-1' };
const waiting = { ...platformLabel, [LABEL.waitingForPlatform]: 'linux-arm64' };
const running: TaskRunStatus = {
  podName: 'p',
  conditions: [{ type: 'Succeeded', status: 'Unknown', reason: 'Running' }],
};
const succeeded: TaskRunStatus = {
  podName: 'p',
  conditions: [{ type: 'Succeeded', status: 'True', reason: 'Succeeded' }],
  results: [{ name: 'report', type: 'string', value: 'text' }],
};

function seeing(...versions: [Partial<ObjectMeta>, (TaskRunStatus | undefined)?][]): Observed {
  const observed = unseen({ name: 'build', platform: 'linux/arm64', expectation: 'built' });
  for (const [index, [metadata, status]] of versions.entries()) {
    takeIn(observed, { metadata: { name: 'build', ...metadata }, spec: {}, ...(status && { status }) }, 1000 * index);
  }
  return observed;
}

describe('what the demo sees of a TaskRun', () => {
  it.each<[string, Partial<ObjectMeta>, TaskRunStatus | undefined, Observed['stage']]>([
    ['new', { labels: platformLabel, finalizers: [FINALIZER] }, undefined, 'new'],
    ['queued', { labels: waiting }, undefined, 'queued'],
    ['given a host', { labels: assigned }, undefined, 'preparing'],
    ['running', { labels: assigned }, running, 'running'],
    ['ended with its finalizer', { finalizers: [FINALIZER] }, succeeded, 'done'],
    ['ended with its host', { labels: assigned }, succeeded, 'done'],
    ['ended and let go', {}, succeeded, 'released'],
  ])('one that is %s', (_, metadata, status, stage) => {
    expect(seeing([metadata, status]).stage).toBe(stage);
  });

  it('remembers what is taken off again', () => {
    const observed = seeing([{ labels: waiting }], [{ labels: assigned }, running], [{}, succeeded], [{}, succeeded]);
    expect(observed).toMatchObject({ host: 'arm64-1', waited: true, marked: true, report: 'text', endedMs: 2000 });
  });

  it('knows one that was never touched', () => {
    expect(seeing([{}], [{ labels: { other: 'x' }, finalizers: ['other'] }, running], [{}, succeeded]).marked).toBe(
      false,
    );
  });

  it.each<Partial<ObjectMeta>>([
    { finalizers: [FINALIZER] },
    { labels: platformLabel },
    { labels: assigned },
    { annotations: { 'build.appstudio.redhat.com/failed-hosts': '' } },
  ])('sees the touch of %j', (metadata) => {
    expect(seeing([metadata], [{}, succeeded]).marked).toBe(true);
  });
});
