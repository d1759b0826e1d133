import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { MARKER } from './remote-script.ts';
import { twinOf } from './testing.ts';

const name = fc.stringMatching(/^[a-z]{1,8}$/);
const text = fc.string({ maxLength: 30, unit: fc.constantFrom(...Array.from('ab \'"#:-{}[]&*!|>%@`$\\\tüX0')) });
const lines = fc.array(text, { minLength: 1, maxLength: 4 }).map((all) => all.join('\n'));
const script = fc
  .tuple(fc.constantFrom('', '#!/bin/sh\n', '#!/bin/bash\nset -eu\n'), lines)
  .map(([head, rest]) => `${head}x${rest}`);
const list = <T>(item: fc.Arbitrary<T>): fc.Arbitrary<T[] | undefined> =>
  fc.option(fc.array(item, { maxLength: 3 }), { nil: undefined });
const unique = <T extends { name: string }>(item: fc.Arbitrary<T>): fc.Arbitrary<T[] | undefined> =>
  list(item).map((items) => items && [...new Map(items.map((one) => [one.name, one])).values()]);

const env = unique(fc.record({ name: fc.stringMatching(/^V[A-Z]{1,5}$/), value: text }));
const step = fc.record(
  { image: name, script, env, workingDir: text.map((end) => `/${end}`), args: list(text), displayName: text },
  { requiredKeys: ['image', 'script'] },
);
const task = fc.record({
  build: step,
  others: fc.array(step, { maxLength: 2 }),
  position: fc.nat(2),
  spec: fc.record(
    {
      description: lines,
      params: unique(
        fc.record(
          { name: name.map((end) => `p${end}`), description: lines, default: text },
          { requiredKeys: ['name'] },
        ),
      ),
      stepTemplate: fc.record({ env }),
      volumes: unique(fc.record({ name: name.map((end) => `v${end}`), emptyDir: fc.constant({}) })),
    },
    { requiredKeys: [] },
  ),
});
const style = fc.record({
  indentSeq: fc.boolean(),
  indent: fc.integer({ min: 2, max: 4 }),
  lineWidth: fc.constantFrom(0, 40, 80),
  singleQuote: fc.boolean(),
});

test(
  'whatever a Task holds and however it is written, a twin is the Task with what is added',
  { timeout: 60_000 },
  () => {
    fc.assert(
      fc.property(task, style, fc.boolean(), ({ build, others, position, spec }, written, windows) => {
        const steps = others.map((other, i): object => ({ ...other, name: `other-${i}` }));
        steps.splice(position, 0, { ...build, name: 'build' });
        const object = {
          apiVersion: 'tekton.dev/v1',
          kind: 'Task',
          metadata: { name: 'example' },
          spec: { ...spec, steps },
        };
        const yaml = stringify(object, written);
        const before = windows ? yaml.replaceAll('\n', '\r\n') : yaml;
        const plain = parse(before);

        const twin = parse(twinOf(before));
        const remote = twin.spec.steps.find((one: { name: string }) => one.name === 'build');
        const [ours, own] = splitAt(remote.script, `${MARKER}\n`);
        expect(ours).toContain('run_on_host script "$@"\nexit\n');
        const original: string = plain.spec.steps.find((one: { name: string }) => one.name === 'build').script;
        // More newlines than one at the end mean nothing to a script; where it is rewritten they go.
        expect(own.replace(/\n+$/, '\n')).toBe(original.replace(/\n+$/, '\n'));
        const expected = structuredClone(plain);
        expected.metadata.name = 'example-remote';
        expected.spec.params = [...(plain.spec.params ?? []), expect.objectContaining({ name: 'PLATFORM' })];
        expected.spec.volumes = [...(plain.spec.volumes ?? []), expect.objectContaining({ name: 'ssh' })];
        const local = expected.spec.steps.find((one: { name: string }) => one.name === 'build');
        local.script = remote.script;
        local.env = [...(local.env ?? []), { name: 'BUILDER_IMAGE', value: build.image }];
        local.volumeMounts = [{ name: 'ssh', mountPath: '/ssh', readOnly: true }];
        expect(twin).toEqual(expected);
      }),
      { numRuns: 100 },
    );
  },
);

function splitAt(whole: string, part: string): [string, string] {
  const at = whole.indexOf(part);
  return [whole.slice(0, at), whole.slice(at + part.length)];
}
