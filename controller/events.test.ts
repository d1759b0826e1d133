import { setImmediate as turn } from 'node:timers/promises';

import { expect, test } from 'vitest';

import type { KubeClient } from '#shared/kubernetes/client.ts';
import { KubeError } from '#shared/kubernetes/errors.ts';
import { createLog } from '#shared/log.ts';

import { EventRecorder, type EventTarget } from './events.ts';

interface Sent {
  readonly path: string;
  readonly body: Record<string, unknown>;
}

const TARGET: EventTarget = { apiVersion: 'tekton.dev/v1', kind: 'TaskRun', namespace: 'ns', name: 'build', uid: 'u1' };
const START_MS = Date.parse('2026-01-01T12:00:00.123Z');

function setUp() {
  const created: Sent[] = [];
  const patched: Sent[] = [];
  const setting = {
    created,
    patched,
    nowMs: START_MS,
    /** Awaited before anything is stored. */
    gate: async (): Promise<void> => {},
  };
  const client = {
    create: async <T>(path: string, body: NoInfer<T>): Promise<T> => {
      created.push({ path, body: body as Record<string, unknown> });
      await setting.gate();
      return body;
    },
    patch: async <T>(path: string, body: unknown): Promise<T> => {
      patched.push({ path, body: body as Record<string, unknown> });
      await setting.gate();
      return body as T;
    },
  } satisfies Pick<KubeClient, 'create' | 'patch'>;
  const recorder = new EventRecorder({
    client,
    clock: { now: () => setting.nowMs, sleep: async () => {} },
    log: createLog({ level: 'error', destination: { write: () => {} } }),
    instance: 'one',
  });
  return { ...setting, recorder, setting };
}

const settle = async (): Promise<void> => {
  for (let round = 0; round < 20; round++) await turn();
};

test('an Event says what, on what, when and by whom', async () => {
  const { recorder, created } = setUp();
  recorder.record('assigned', TARGET, 'got a slot on host a');
  await settle();
  expect(created).toMatchObject([
    {
      path: '/api/v1/namespaces/ns/events',
      body: {
        involvedObject: TARGET,
        type: 'Normal',
        reason: 'HostAssigned',
        message: 'got a slot on host a',
        firstTimestamp: '2026-01-01T12:00:00Z',
        lastTimestamp: '2026-01-01T12:00:00Z',
        count: 1,
        reportingInstance: 'one',
      },
    },
  ]);
});

test('what repeats is folded into one, for ten minutes since it was last said; another target or text is another Event', async () => {
  const { recorder, created, patched, setting } = setUp();
  for (let time = 0; time < 3; time++) {
    recorder.record('cleanupFailed', TARGET, 'tried again');
    await settle();
    setting.nowMs += 9 * 60_000;
  }
  expect(created).toHaveLength(1);
  expect(patched.map(({ body }) => body)).toEqual([
    { count: 2, lastTimestamp: '2026-01-01T12:09:00Z' },
    { count: 3, lastTimestamp: '2026-01-01T12:18:00Z' },
  ]);
  expect(patched[0]?.path).toBe(`/api/v1/namespaces/ns/events/${nameOf(created[0])}`);
  recorder.record('cleanupFailed', { ...TARGET, uid: 'u2' }, 'tried again');
  recorder.record('cleanupFailed', TARGET, 'tried differently');
  setting.nowMs += 60_000;
  recorder.record('cleanupFailed', TARGET, 'tried again');
  await settle();
  expect(created).toHaveLength(4);
});

test('whoever stops can wait for those that are on their way, and for those that are lost', async () => {
  const { recorder, created, setting } = setUp();
  await recorder.sent();
  const { promise, resolve } = Promise.withResolvers<void>();
  setting.gate = async () => {
    await promise;
    throw new Error('the namespace is going');
  };
  for (const host of ['a', 'b', 'c']) recorder.record('assigned', TARGET, `got a slot on host ${host}`);
  const order: string[] = [];
  const sent = recorder.sent().then(() => order.push('sent'));
  await settle();
  order.push('held');
  resolve();
  await sent;
  expect(order).toEqual(['held', 'sent']);
  expect(created).toHaveLength(3);
});

test('an Event that has expired meanwhile is written anew', async () => {
  const { recorder, created, setting } = setUp();
  recorder.record('waiting', TARGET, 'waits');
  await settle();
  setting.gate = async () => {
    setting.gate = async () => {};
    throw new KubeError('PATCH', 404, {});
  };
  recorder.record('waiting', TARGET, 'waits');
  await settle();
  expect(created).toHaveLength(2);
  expect(nameOf(created[0])).not.toBe(nameOf(created[1]));
});

test.each(['a'.repeat(253), `${'a'.repeat(199)}.${'b'.repeat(53)}`, `${'a'.repeat(198)}--${'b'.repeat(20)}`, 'a'])(
  'its name is one that Kubernetes allows, whatever the target is called',
  async (name) => {
    const { recorder, created } = setUp();
    recorder.record('waiting', { ...TARGET, name }, 'waits');
    await settle();
    const given = nameOf(created[0]);
    expect(given).toMatch(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/);
    expect(given.length).toBeLessThanOrEqual(253);
    expect(created[0]?.body.involvedObject).toMatchObject({ name });
  },
);

test('a text is cut where the API server would refuse it, and holds no key', async () => {
  const { recorder, created } = setUp();
  const key = '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----';
  recorder.record('hostFailed', TARGET, `it said ${key} ${'x'.repeat(2000)}`);
  await settle();
  const message = String(created[0]?.body.message);
  expect(message).toHaveLength(1024);
  expect(message).toMatch(/^it said \[redacted\] x+…$/);
});

test('an API server that hangs gets two at a time, and of too many the oldest are dropped', async () => {
  const { recorder, created, setting } = setUp();
  const open = Promise.withResolvers<void>();
  setting.gate = async () => await open.promise;
  for (let index = 0; index < 2500; index++) recorder.record('waiting', TARGET, `number ${index}`);
  await settle();
  expect(created.map(({ body }) => body.message)).toEqual(['number 0', 'number 1']);
  open.resolve();
  for (let round = 0; round < 200; round++) await settle();
  expect(created).toHaveLength(2002);
  expect(created[2]?.body.message).toBe('number 500');
  expect(new Set(created.map(nameOf)).size).toBe(2002);
});

test('one that cannot be written stops no other', async () => {
  const { recorder, created, setting } = setUp();
  setting.gate = async () => await Promise.reject(new Error('no answer'));
  recorder.record('waiting', TARGET, 'lost');
  await settle();
  setting.gate = async () => {};
  recorder.record('waiting', TARGET, 'written');
  await settle();
  expect(created.map(({ body }) => body.message)).toEqual(['lost', 'written']);
});

function nameOf(sent: Sent | undefined): string {
  return (sent?.body.metadata as { name: string } | undefined)?.name ?? '';
}
