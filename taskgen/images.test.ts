import { parse, stringify } from 'yaml';
import { describe, expect, test } from 'vitest';
import { refusalOf, twinOf } from './testing.ts';

const APPENDING = `if [ "$IMAGE_APPEND_PLATFORM" = true ]; then
  IMAGE="$IMAGE-$(printf %s "$PLATFORM" | tr -c a-zA-Z0-9 -)"
fi
`;

interface Step {
  readonly name: string;
  readonly script?: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly displayName?: string;
  readonly ref?: object;
  readonly params?: readonly object[];
  readonly when?: readonly object[];
  readonly env?: readonly { name: string; value: string }[];
}

const IMAGE = { name: 'IMAGE', value: '$(params.IMAGE)' };
const DECLARED = [
  { name: 'PLATFORM', value: '$(params.PLATFORM)' },
  { name: 'IMAGE_APPEND_PLATFORM', value: '$(params.IMAGE_APPEND_PLATFORM)' },
];

function task(steps: readonly Step[], stepTemplate?: object): string {
  const all = [{ name: 'build', script: 'make' }, ...steps].map((step) => ({ image: 'x', ...step }));
  const spec = { params: [{ name: 'IMAGE' }], ...(stepTemplate && { stepTemplate }), steps: all };
  return stringify({ apiVersion: 'tekton.dev/v1', kind: 'Task', metadata: { name: 'example' }, spec });
}

describe('a step that uses the image', () => {
  test.each([
    ['behind #! and set', '#!/bin/bash\nset -e\nset -o pipefail\n\n', 'push $IMAGE'],
    [
      'in front of a set that goes on in the next line',
      '#!/bin/bash\nset +x # why\n',
      'set -e \\\n  -u\npush "$IMAGE"',
    ],
    ['in front of a set that does more', '#!/bin/bash\n', 'set -e; if true; then\n  push "$IMAGE"\nfi'],
    ['in front of what only begins like it', '#!/bin/bash\n', 'setup\npush "$IMAGE"'],
    ['behind #! of sh', '#!/usr/bin/env sh\n', ': ${IMAGE}'],
    ['in front where there is no #!', '', 'set -x\npush "$IMAGE"'],
  ])('appends the platform %s', (_, head, rest) => {
    const twin = parse(twinOf(task([{ name: 'push', script: head + rest }], { env: [IMAGE] })));
    expect(twin.spec.steps[1]).toEqual({ image: 'x', name: 'push', script: head + APPENDING + rest });
    expect(twin.spec.stepTemplate.env).toEqual([IMAGE, ...DECLARED]);
  });

  test('may call it otherwise, and declare it itself', () => {
    const env = [{ name: 'TARGET', value: '$(params["IMAGE"])' }];
    const twin = parse(twinOf(task([{ name: 'push', script: 'push "$TARGET"', env }])));
    expect(twin.spec.steps[1].script).toBe(APPENDING.replaceAll(/\bIMAGE\b/g, 'TARGET') + 'push "$TARGET"');
    expect(twin.spec.steps[1].env).toEqual([...env, ...DECLARED]);
    expect(twin.spec.steps[0].env).toEqual([{ name: 'BUILDER_IMAGE', value: 'x' }]);
  });

  test('may leave it to a program that it calls', () => {
    const { spec } = parse(twinOf(task([{ name: 'push', script: './push.sh' }], { env: [IMAGE] })));
    expect(spec.steps[1].script).toBe(`${APPENDING}./push.sh`);
  });

  test('and others stay as they are', () => {
    const others = [
      { name: 'a', script: '#!/bin/python3\nprint()' },
      { name: 'b', displayName: 'of $(params.IMAGE)', command: ['echo', '$IMAGES', '$MY_IMAGE'] },
      { name: 'c', command: ['true'] },
    ];
    const { spec } = parse(twinOf(task(others, { env: [IMAGE] })));
    expect(spec.steps.slice(1)).toEqual(others.map((step) => ({ image: 'x', ...step })));
  });
});

test('a Task without a variable for the image gets no param for its name', () => {
  const { spec } = parse(twinOf(task([{ name: 'push', script: 'push $(params.IMAGE)' }])));
  expect(spec.params.map(({ name }: { name: string }) => name)).toEqual(['IMAGE', 'PLATFORM']);
});

describe('refused by name', () => {
  const DIRECT = 'uses $(params.IMAGE) itself, where no platform can be appended: it needs an env IMAGE for it';
  test.each<[string, Step]>([
    [
      'step push uses IMAGE, but is no shell script that could append the platform',
      { name: 'push', script: '#!/usr/bin/python3\nos.environ["IMAGE"]' },
    ],
    [
      'step push uses IMAGE, but is no shell script that could append the platform',
      { name: 'push', command: ['push'], args: ['$(IMAGE)'] },
    ],
    [`step push ${DIRECT}`, { name: 'push', script: 'push $(params.IMAGE)' }],
    [`step push ${DIRECT}`, { name: 'push', command: ['push'], args: ["$(params['IMAGE'])"] }],
    [
      `step push ${DIRECT}`,
      { name: 'push', script: 'push', env: [{ name: 'URL', value: 'docker://$(params["IMAGE"])' }] },
    ],
    [
      `step push ${DIRECT}`,
      { name: 'push', ref: { name: 'push' }, params: [{ name: 'to', value: ['$(params.IMAGE)'] }] },
    ],
    [
      `step push ${DIRECT}`,
      { name: 'push', script: 'true', when: [{ input: '$(params.IMAGE)', operator: 'in', values: ['x'] }] },
    ],
    [
      'env PLATFORM: the twin needs this name',
      { name: 'push', script: 'push', env: [{ name: 'PLATFORM', value: 'x' }] },
    ],
  ])('%s', (reason, step) => {
    expect(refusalOf(task([step], { env: [IMAGE] }))).toEqual({ code: 'taskgen.refused', reasons: [reason] });
  });
});
