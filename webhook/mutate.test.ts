import fc from 'fast-check';
import { expect, test } from 'vitest';

import { mutate, type PatchOperation } from './mutate.ts';
import { MUTATION_CASES } from './mutation-cases.ts';

type Json = Record<string, unknown>;

/** RFC 6902 for what we use of it, as strict as the API server: a path whose parent is missing is an error. */
function apply(taskRun: Json, patch: readonly PatchOperation[]): Json {
  const result = structuredClone(taskRun);
  for (const operation of patch) {
    const [, root, field = '', key] = operation.path
      .split('/')
      .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    expect(root).toBe('metadata');
    const metadata = result.metadata as Json;
    const parent = key === undefined ? metadata : metadata[field];
    const name = key ?? field;
    if (Array.isArray(parent) && name === '-' && operation.op === 'add') {
      parent.push(operation.value);
      continue;
    }
    if (typeof parent !== 'object' || parent === null || Array.isArray(parent)) throw new Error(`no ${operation.path}`);
    const map = parent as Json;
    if (operation.op === 'add') {
      map[name] = operation.value;
    } else {
      if (!Object.hasOwn(map, name)) throw new Error(`nothing to remove at ${operation.path}`);
      delete map[name];
    }
  }
  return result;
}

/** What is missing, null or empty is the same to Kubernetes. */
function present(metadata: Json): Json {
  const kept = Object.entries(metadata).filter(([, value]) => Object.keys((value ?? {}) as Json).length > 0);
  return Object.fromEntries(kept);
}

test.each(MUTATION_CASES)('$name', ({ metadata, spec, expected, warning }) => {
  const mutation = mutate({ metadata, spec });
  const result = apply({ metadata, spec }, mutation.patch);
  expect(present(result.metadata as Json)).toEqual(expected);
  expect(result.spec).toEqual(spec);
  expect(mutation.warning ?? '').toContain(warning ?? '');
  expect(mutation.warning === undefined).toBe(warning === undefined);
  expect(mutate(result).patch).toEqual([]);
});

test('a warning shows the beginning of a long PLATFORM, printable, and what a platform looks like', () => {
  const { warning } = mutate({
    metadata: {},
    spec: { params: [{ name: 'PLATFORM', value: `\u0007${'x'.repeat(1000)}` }] },
  });
  expect(warning).toContain('"\\u0007xxxx');
  expect(warning).toContain('"linux/arm64"');
  expect(warning?.length).toBeLessThan(250);
});

test.each([null, 7, 'text', [], {}, { metadata: null, spec: null }, { metadata: {}, spec: { params: {} } }])(
  'what is no TaskRun at all is left alone: %j',
  (value) => {
    expect(mutate(value)).toEqual({ outcome: 'skipped', patch: [] });
  },
);

test('whatever the object holds, the patch applies, changes only metadata, and a second round finds nothing to do', () => {
  const key = fc.constantFrom(
    'app',
    '__proto__',
    'a~b/c',
    'build.appstudio.redhat.com/target-platform',
    'build.appstudio.redhat.com/assigned-host',
    'build.appstudio.redhat.com/failed-hosts',
  );
  const map = fc.oneof(fc.dictionary(key, fc.oneof(fc.string(), fc.jsonValue())), fc.jsonValue());
  const finalizers = fc.oneof(fc.array(fc.constantFrom('appstudio.io/multi-platform-finalizer', 'b')), fc.jsonValue());
  const param = fc.oneof(
    fc.record({
      name: fc.constantFrom('PLATFORM', 'IMAGE'),
      value: fc.oneof(fc.constantFrom('linux/arm64', 'local'), fc.string(), fc.jsonValue()),
    }),
    fc.jsonValue(),
  );
  const taskRun = fc.record({
    metadata: fc.record({ labels: map, annotations: map, finalizers }, { requiredKeys: [] }),
    spec: fc.oneof(fc.record({ params: fc.array(param) }), fc.jsonValue()),
  });
  fc.assert(
    fc.property(taskRun, (given) => {
      const { patch, outcome } = mutate(given);
      const result = apply(given, patch);
      expect(result.spec).toEqual(given.spec);
      expect(mutate(result)).toMatchObject({ outcome, patch: [] });
    }),
    { numRuns: 2000 },
  );
});
