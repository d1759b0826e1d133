import { describe, expect, test } from 'vitest';

import { parseHostConfig } from '#shared/host-config.ts';
import { ANNOTATION, FINALIZER, LABEL, LOCAL_HOST } from '#shared/names.ts';

import { decide, type Decision, type Facts, type RunMemory } from './decide.ts';
import { viewOf, type TaskRun } from './view.ts';

const ARM = 'linux/arm64';
const NOW_MS = Date.parse('2026-01-01T12:00:00Z');

const CONFIG = parseHostConfig({
  'host.a.address': '10.0.0.1',
  'host.a.user': 'root',
  'host.a.platform': ARM,
  'host.a.secret': 'key',
  'host.a.concurrency': '1',
  'local-platforms': 'linux/x86_64',
  'wait-timeout.linux-arm64': '10m',
});

const NOTHING: RunMemory = {
  host: undefined,
  waiting: false,
  searchStartMs: undefined,
  secret: 'absent',
  prepared: undefined,
};
const MARKED = { finalizers: [FINALIZER], labels: { [LABEL.targetPlatform]: 'linux-arm64' } };
const OUR_VOLUME = { name: 'ssh', secret: { secretName: 'multi-platform-ssh-build' } };
const MOUNTED = { taskSpec: { volumes: [{ name: 'other', secret: { secretName: 'x' } }, OUR_VOLUME] } };
const DONE = {
  ...MOUNTED,
  conditions: [{ type: 'Succeeded', status: 'True' }],
  completionTime: '2026-01-01T11:59:00Z',
};

interface Given {
  metadata?: Record<string, unknown>;
  platform?: unknown;
  params?: unknown;
  status?: unknown;
  memory?: Partial<RunMemory>;
  configState?: Facts['configState'];
}

function decided(given: Given): Decision {
  const params =
    'params' in given ? given.params : [{ name: 'PLATFORM', value: 'platform' in given ? given.platform : ARM }];
  const object = {
    metadata: { name: 'build', namespace: 'ns', uid: 'u1', resourceVersion: '1', ...given.metadata },
    spec: { params },
    ...(given.status !== undefined && { status: given.status }),
  } as TaskRun;
  return decide({
    view: viewOf(object),
    memory: { ...NOTHING, ...given.memory },
    configState: given.configState ?? { config: CONFIG },
    nowMs: NOW_MS,
  });
}

const DELETING = { ...MARKED, deletionTimestamp: '2026-01-01T11:59:00Z' };

test.each<[string, Given, string]>([
  ['no params at all, not marked', { params: undefined }, 'none'],
  ['no PLATFORM among its params, but marked', { params: [{ name: 'IMAGE', value: 'x' }], metadata: MARKED }, 'unmark'],
  ['PLATFORM, not marked, not resolved: the first write that it needs marks it', {}, 'none'],
  ['PLATFORM, marked, not resolved', { metadata: MARKED }, 'none'],
  ['a status without taskSpec is not resolved either', { metadata: MARKED, status: { podName: '' } }, 'none'],
  ['a malformed platform that is not resolved: it may be none of ours', { platform: 'WIN 95' }, 'none'],
  ['resolved and no volume at all', { metadata: MARKED, status: { taskSpec: {} } }, 'unmark'],
  ['resolved and volumes is null', { metadata: MARKED, status: { taskSpec: { volumes: null } } }, 'unmark'],
  ['resolved, not ours, not marked', { status: { taskSpec: {} } }, 'none'],
  [
    "resolved with another TaskRun's Secret",
    { metadata: MARKED, status: { taskSpec: { volumes: [{ secret: { secretName: 'multi-platform-ssh-other' } }] } } },
    'unmark',
  ],
  [
    'not ours any more, and it held a slot',
    { metadata: withHost('a'), status: { taskSpec: {} }, memory: { host: 'a' } },
    'release',
  ],
  [
    'not ours any more, and it waited',
    { params: undefined, metadata: MARKED, status: MOUNTED, memory: { waiting: true } },
    'release',
  ],
  [
    'not ours any more, nor marked, and it has a Secret',
    { params: undefined, status: MOUNTED, memory: { secret: 'present' } },
    'release',
  ],
  ['not resolved, and it may have a Secret', { metadata: withHost('a'), memory: { secret: 'unknown' } }, 'look'],
  [
    'done while no process ran, and it may have a Secret',
    { metadata: withHost('a'), status: DONE, memory: { host: 'a', secret: 'unknown' } },
    'look',
  ],
  ['resolved and ours', { metadata: MARKED, status: MOUNTED }, 'allocate'],
  [
    'ours by a projected volume',
    {
      metadata: MARKED,
      status: {
        taskSpec: { volumes: [{ projected: { sources: [{ secret: { name: 'multi-platform-ssh-build' } }] } }] },
      },
    },
    'allocate',
  ],
  ['ours, though nobody marked it', { status: MOUNTED }, 'allocate'],
  ['ours, and its platform malformed', { metadata: MARKED, status: MOUNTED, platform: 'Linux ARM' }, 'refuse'],
  ['ours, and its platform a list', { metadata: MARKED, status: MOUNTED, platform: [ARM] }, 'refuse'],
  ['ours, and its platform empty', { metadata: MARKED, status: MOUNTED, platform: '' }, 'refuse'],
  ['ours, and its platform local', { metadata: MARKED, status: MOUNTED, platform: 'linux/x86_64' }, 'run-locally'],
  [
    'ours, and no host list',
    { metadata: MARKED, status: MOUNTED, configState: { missing: 'it is not there' } },
    'refuse',
  ],
  [
    'ours, malformed, and no host list',
    { metadata: MARKED, status: MOUNTED, platform: '!', configState: { missing: 'x' } },
    'refuse',
  ],
  [
    'waiting, and it is written',
    {
      metadata: { ...MARKED, labels: { ...MARKED.labels, [LABEL.waitingForPlatform]: 'linux-arm64' } },
      status: MOUNTED,
      memory: { waiting: true, searchStartMs: NOW_MS },
    },
    'none',
  ],
  [
    'waiting, and it is not written yet',
    { metadata: MARKED, status: MOUNTED, memory: { waiting: true, searchStartMs: NOW_MS } },
    'allocate',
  ],
  [
    'waiting for too long',
    { metadata: MARKED, status: MOUNTED, memory: { waiting: true, searchStartMs: NOW_MS - 600_000 } },
    'refuse',
  ],
  [
    'waiting for just less',
    {
      metadata: { ...MARKED, labels: { ...MARKED.labels, [LABEL.waitingForPlatform]: 'linux-arm64' } },
      status: MOUNTED,
      memory: { waiting: true, searchStartMs: NOW_MS - 599_999 },
    },
    'none',
  ],
  ['a slot that is not written yet', { metadata: MARKED, status: MOUNTED, memory: { host: 'a' } }, 'assign'],
  ['a slot, where another is written', { metadata: withHost('b'), status: MOUNTED, memory: { host: 'a' } }, 'assign'],
  ['a slot that is written', { metadata: withHost('a'), status: MOUNTED, memory: { host: 'a' } }, 'provision'],
  ['a host that a user wrote on it', { metadata: withHost('a'), status: MOUNTED }, 'allocate'],
  [
    'a slot, and its Secret',
    { metadata: withHost('a'), status: MOUNTED, memory: { host: 'a', secret: 'present' } },
    'none',
  ],
  [
    'a slot and its Secret, and a user took the finalizer off',
    { metadata: { labels: withHost('a').labels }, status: MOUNTED, memory: { host: 'a', secret: 'present' } },
    'assign',
  ],
  [
    'a slot and its Secret, and a user took our labels off',
    { metadata: { finalizers: [FINALIZER] }, status: MOUNTED, memory: { host: 'a', secret: 'present' } },
    'assign',
  ],
  [
    'waiting, and a user took the label off that it is watched by',
    {
      metadata: { finalizers: [FINALIZER], labels: { [LABEL.waitingForPlatform]: 'linux-arm64' } },
      status: MOUNTED,
      memory: { waiting: true, searchStartMs: NOW_MS },
    },
    'allocate',
  ],
  [
    'a slot, after a restart',
    { metadata: withHost('a'), status: MOUNTED, memory: { host: 'a', secret: 'unknown' } },
    'look',
  ],
  [
    "a slot, and somebody else's Secret",
    { metadata: withHost('a'), status: MOUNTED, memory: { host: 'a', secret: 'foreign' } },
    'withdraw',
  ],
  [
    "somebody else's Secret, and the slot given back",
    { metadata: MARKED, status: MOUNTED, memory: { secret: 'foreign' } },
    'none',
  ],
  [
    'refused before a restart',
    {
      metadata: { ...MARKED, annotations: { [ANNOTATION.error]: 'no host' } },
      status: MOUNTED,
      memory: { secret: 'unknown' },
    },
    'look',
  ],
  [
    'to be local when its Secret could not be made, and its platform is not local any more',
    { metadata: withHost(LOCAL_HOST), status: MOUNTED, memory: { prepared: { kind: 'local' } } },
    'run-locally',
  ],
  [
    'refused, by its own process',
    {
      metadata: { ...MARKED, annotations: { [ANNOTATION.error]: 'no host' } },
      status: MOUNTED,
      memory: { secret: 'present' },
    },
    'none',
  ],
  [
    'done, and it held a slot',
    { metadata: withHost('a'), status: DONE, memory: { host: 'a', secret: 'present' } },
    'release',
  ],
  ['done before it was ever assigned', { metadata: MARKED, status: DONE }, 'release'],
  ['done with an empty podName', { metadata: MARKED, status: { ...DONE, podName: '' } }, 'release'],
  [
    'failed',
    { metadata: MARKED, status: { ...MOUNTED, conditions: [{ type: 'Succeeded', status: 'False' }] } },
    'release',
  ],
  ['done, and nothing of ours is on it', { status: DONE }, 'none'],
  [
    'running on, with a retry to come',
    {
      metadata: withHost('a'),
      status: { ...MOUNTED, conditions: [{ type: 'Succeeded', status: 'Unknown' }] },
      memory: { host: 'a', secret: 'present' },
    },
    'none',
  ],
  ['deleted before it was resolved', { metadata: DELETING }, 'release'],
  ['deleted while it waits', { metadata: DELETING, status: MOUNTED, memory: { waiting: true } }, 'release'],
  [
    'deleted while its account is made',
    {
      metadata: { ...withHost('a'), deletionTimestamp: '2026-01-01T11:59:00Z' },
      status: MOUNTED,
      memory: { host: 'a' },
    },
    'release',
  ],
  ['deleted, not ours, and our finalizer on it all the same', { params: undefined, metadata: DELETING }, 'release'],
  [
    'deleted, our finalizer taken off by somebody, and it holds a slot',
    { metadata: { deletionTimestamp: '2026-01-01T11:59:00Z' }, memory: { host: 'a' } },
    'release',
  ],
  ['deleted, and nothing of ours is on it', { metadata: { deletionTimestamp: '2026-01-01T11:59:00Z' } }, 'none'],
])('%s: %3$s', (_what, given, action) => {
  const decision = decided(given);
  expect(decision.action).toBe(action);
  expect(decision.reason).not.toBe('');
});

describe('what a refused TaskRun is told', () => {
  test('names the value and what would be right, however long the value is', () => {
    const decision = decided({ metadata: MARKED, status: MOUNTED, platform: `x${'!'.repeat(100_000)}` });
    expect(decision).toMatchObject({ action: 'refuse' });
    const { message } = decision as { message: string };
    expect(message).toContain('"x!!!');
    expect(message).toContain('linux/arm64');
    expect(message.length).toBeLessThan(500);
  });

  test('stays the same while its Secret is not made', () => {
    const memory = { prepared: { kind: 'error', message: 'the very message' } } as const;
    expect(decided({ metadata: MARKED, status: MOUNTED, memory })).toMatchObject({ message: 'the very message' });
  });
});

function withHost(host: string): Record<string, unknown> {
  return { ...MARKED, labels: { ...MARKED.labels, [LABEL.assignedHost]: host } };
}
