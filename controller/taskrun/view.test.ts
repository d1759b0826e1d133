import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { ANNOTATION, FINALIZER, LABEL } from '#shared/names.ts';

import { failedHostsOf, viewOf, type TaskRun } from './view.ts';

const base = { name: 'build', namespace: 'ns', uid: 'u', resourceVersion: '7' };

test('keeps what a decision needs and nothing else', () => {
  const view = viewOf({
    metadata: {
      ...base,
      creationTimestamp: '2026-01-01T00:00:00Z',
      labels: { [LABEL.targetPlatform]: 'linux-arm64', app: 'large' },
      annotations: { note: 'x'.repeat(1000) },
      finalizers: ['other', FINALIZER],
    },
    spec: { params: [{ name: 'PLATFORM', value: 'linux/arm64' }], timeout: '1h30m', retries: 1 },
    status: { podName: 'build-pod', conditions: [{ type: 'Succeeded', status: 'Unknown' }] },
  });
  expect(view).toEqual({
    ...base,
    createdAt: '2026-01-01T00:00:00Z',
    platform: { kind: 'string', value: 'linux/arm64' },
    mount: 'unresolved',
    done: false,
    deleting: false,
    endedAtMs: undefined,
    podName: 'build-pod',
    finalizers: ['other', FINALIZER],
    hasFinalizer: true,
    labels: { [LABEL.targetPlatform]: 'linux-arm64' },
    annotations: {},
    // One retry: twice an hour and a half.
    timeoutMs: 10_800_000,
  });
});

test.each([
  ['1h0m0s', 3_600_000],
  ['90s', 90_000],
  ['1.5h', 5_400_000],
  ['0', undefined],
  ['0s', undefined],
  ['500ms', 500],
  ['rubbish', undefined],
])('a timeout of %s is %s ms', (timeout, ms) => {
  expect(viewOf({ metadata: base, spec: { timeout } }).timeoutMs).toBe(ms);
});

describe('never throws, whatever shape', () => {
  const anything = fc.anything({ maxDepth: 3, withNullPrototype: true });
  /** Each key is absent, of the shape that is said, or anything at all. */
  const shape = (keys: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<unknown> =>
    fc.oneof(
      anything,
      fc.record(Object.fromEntries(Object.entries(keys).map(([key, values]) => [key, fc.oneof(anything, values)])), {
        requiredKeys: [],
      }),
    );
  const list = (of: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
    fc.oneof(anything, fc.array(fc.oneof(of, anything), { maxLength: 3 }));
  const name = fc.constantFrom('PLATFORM', 'Succeeded', 'multi-platform-ssh-build', LABEL.targetPlatform);
  const source = shape({ secret: shape({ name }) });
  const volume = shape({ secret: shape({ secretName: name }), projected: shape({ sources: list(source) }) });
  const spec = shape({ params: list(shape({ name, value: anything })), timeout: fc.string(), retries: anything });
  const status = shape({
    podName: fc.string(),
    completionTime: fc.string(),
    conditions: list(shape({ type: name, status: anything })),
    taskSpec: shape({ volumes: list(volume) }),
  });
  const marks = shape({ [LABEL.targetPlatform]: anything, [ANNOTATION.failedHosts]: anything });
  const metadata = shape({
    creationTimestamp: anything,
    deletionTimestamp: anything,
    finalizers: list(fc.constant(FINALIZER)),
    labels: marks,
    annotations: marks,
  });

  test('its parts have', () => {
    fc.assert(
      fc.property(metadata, spec, status, (more, theSpec, theStatus) => {
        const object = { metadata: { ...Object(more), ...base }, spec: theSpec, status: theStatus } as TaskRun;
        const view = viewOf(object);
        expect(['unresolved', 'mounted', 'not-mounted']).toContain(view.mount);
        for (const text of [...Object.values(view.labels), ...Object.values(view.annotations), ...view.finalizers])
          expect(typeof text).toBe('string');
        failedHostsOf(view);
      }),
      { numRuns: 1000 },
    );
  });

  test.each<[unknown]>([
    ['x'],
    [{}],
    [[null]],
    [[{ secret: 'x' }]],
    [[{ projected: null }]],
    [[{ projected: { sources: 'x' } }]],
    [[{ projected: { sources: [null] } }]],
    [[{ projected: { sources: [{ secret: null }] } }]],
  ])('its volumes have: %j', (volumes) => {
    expect(viewOf({ metadata: base, status: { taskSpec: { volumes } } }).mount).toBe('not-mounted');
  });
});

test.each([
  ['a,b', ['a', 'b']],
  [',a,,$(id),b/c,-d,', ['a']],
  ['', []],
  [Array.from({ length: 30_000 }, (_, index) => `h${index}`).join(','), Array.from({ length: 500 }, (_, i) => `h${i}`)],
])('failed hosts are names of hosts, and not too many (%#)', (text, names) => {
  const view = viewOf({ metadata: { ...base, annotations: { [ANNOTATION.failedHosts]: text } } });
  expect(failedHostsOf(view)).toEqual(names);
});

test('of a platform of a megabyte little is kept, and it is still malformed', () => {
  const { platform } = viewOf({
    metadata: base,
    spec: { params: [{ name: 'PLATFORM', value: 'a/'.repeat(500_000) }] },
  });
  expect(platform).toEqual({ kind: 'string', value: 'a/'.repeat(100) });
});
