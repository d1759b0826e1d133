import fc from 'fast-check';
import { expect, test } from 'vitest';

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
  } as TaskRun);
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
  expect(viewOf({ metadata: base, spec: { timeout } } as TaskRun).timeoutMs).toBe(ms);
});

test('never throws, whatever shape spec and status have', () => {
  const anything = fc.anything({ maxDepth: 4, withNullPrototype: false });
  const volumes = fc.record({
    taskSpec: fc.record({
      volumes: fc.array(fc.record({ secret: fc.option(fc.record({ secretName: fc.string() }), { nil: undefined }) })),
    }),
  });
  fc.assert(
    fc.property(
      fc.option(fc.record({ params: fc.array(fc.record({ name: fc.string(), value: anything })) }), { nil: undefined }),
      fc.option(volumes, { nil: undefined }),
      (spec, status) => {
        const view = viewOf({ metadata: base, spec, status } as unknown as TaskRun);
        expect(['unresolved', 'mounted', 'not-mounted']).toContain(view.mount);
      },
    ),
  );
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
  } as TaskRun);
  expect(platform).toEqual({ kind: 'string', value: 'a/'.repeat(100) });
});
