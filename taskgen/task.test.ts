import { expect, test } from 'vitest';
import { refusalOf, taskWith, twinOf } from './testing.ts';

test.each<[string, string, string, string]>([
  ['nothing', '', 'taskgen.malformed', 'there is no YAML document in it'],
  ['a comment', '# nothing\n', 'taskgen.malformed', 'there is no YAML document in it'],
  [
    'malformed YAML',
    'a: [b\n',
    'taskgen.malformed',
    'malformed YAML: Flow sequence in block collection must be sufficiently indented and end with a ] at line 2, column 1',
  ],
  ['a key twice', 'a: 1\na: 2\n', 'taskgen.malformed', 'malformed YAML: Map keys must be unique at line 2, column 1'],
  [
    'an alias of nothing',
    taskWith({}).replace('image: builder', 'image: *x'),
    'taskgen.malformed',
    'malformed YAML: Unresolved alias (the anchor must be set before the alias): x',
  ],
  [
    'aliases of aliases of aliases',
    `${taskWith({})}a: &a [x, x, x, x, x, x, x, x, x]
${['ab', 'bc', 'cd']
  .map(
    ([from, to]) => `${to}: &${to} [${Array(9).fill(`*${from}`).join(', ')}]
`,
  )
  .join('')}`,
    'taskgen.malformed',
    'malformed YAML: Excessive alias count indicates a resource exhaustion attack',
  ],
  [
    'two documents',
    `${taskWith({})}---\n${taskWith({})}`,
    'taskgen.malformed',
    'there are 2 YAML documents in it: give the Task a file of its own',
  ],
  ['text', 'hello\n', 'taskgen.not-a-task', 'YAML without a kind, not a Task of tekton.dev/v1'],
  [
    'a kustomization',
    'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: []\n',
    'taskgen.not-a-task',
    'a Kustomization of kustomize.config.k8s.io/v1beta1, not a Task of tekton.dev/v1',
  ],
  [
    'a Pipeline',
    'apiVersion: tekton.dev/v1\nkind: Pipeline\n',
    'taskgen.not-a-task',
    'a Pipeline of tekton.dev/v1, not a Task of tekton.dev/v1',
  ],
  [
    'an old Task',
    taskWith({}).replace('/v1', '/v1beta1'),
    'taskgen.not-a-task',
    'a Task of tekton.dev/v1beta1: convert it to tekton.dev/v1 first',
  ],
  [
    'a Task without steps',
    'apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: a}\nspec: {}\n',
    'taskgen.not-a-task',
    'not a well-formed Task: spec.steps: Invalid input: expected array, received undefined',
  ],
  [
    'a number as a value',
    taskWith({ env: [{ name: 'A', value: 1 }] }),
    'taskgen.not-a-task',
    'not a well-formed Task: spec.steps.0.env.0.value: Invalid input: expected string, received number',
  ],
  [
    'a remote Task, by its param',
    taskWith({}, { params: [{ name: 'PLATFORM' }] }),
    'taskgen.already-remote',
    'Task example is a remote one already: it has a param PLATFORM',
  ],
])('%s', (_, text, code, reason) => {
  expect(refusalOf(text)).toEqual({ code, reasons: [reason] });
});

test.each<[string, (text: string) => string, string]>([
  [
    'a flow mapping',
    (text) => text.replace(/spec:\n[^]*/, 'spec: {steps: [{name: build, image: x, script: y}]}\n'),
    'spec',
  ],
  ['a flow list', (text) => text.replace('spec:\n', 'spec:\n  params: [{name: X}]\n'), 'params'],
  ['an alias', (text) => text.replace('spec:\n', 'spec:\n  results: &all []\n  volumes: *all\n'), 'volumes'],
  ['an anchor at a script', (text) => `${text.replace('script: make', 'script: &s make')}x: *s\n`, 'script'],
  [
    'an anchor at a list',
    (text) => `${text.replace('script:', 'env: &e\n        - name: X\n          value: y\n      script:')}x: *e\n`,
    'env',
  ],
  ['an anchor at the step', (text) => text.replace('- name: build', '- &b\n      name: build'), 'steps[0]'],
  ['an anchor at all steps', (text) => text.replace('steps:', 'steps: &all'), 'steps'],
  ['an anchor at the Task', (text) => text.replace('spec:', 'spec: &spec'), 'spec'],
  ['an anchor in a command', (text) => `${text.replace('script: make', 'command: [make, &w all]')}x: *w\n`, 'command'],
])('%s that would have to be changed is refused', (_, change, what) => {
  expect(refusalOf(change(taskWith({})))).toEqual({
    code: 'taskgen.refused',
    reasons: [
      `"${what}" is written in a way that cannot be edited: please write it in block style, without anchors and aliases`,
    ],
  });
});

test('a merge key is refused: what it brings in is not there to be seen', () => {
  const text = taskWith({})
    .replace('metadata:', 'x: &x\n  env: []\nmetadata:')
    .replace('script: make', 'script: make\n      <<: *x');
  expect(refusalOf(text)).toEqual({
    code: 'taskgen.refused',
    reasons: ['the Task has a merge key "<<": please write out what it brings in'],
  });
});

test('what stays as it is may have anchors and aliases, and be in flow style', () => {
  const text = taskWith({ args: ['all'] }, { description: 'both' })
    .replace('description: both', 'description: &d both')
    .replace('- all', '- *d')
    .replace(
      '  steps:\n',
      '  steps:\n    - {name: first, image: x, script: &s y}\n    - {name: second, image: x, script: *s}\n',
    );
  const twin = twinOf(text);
  expect(twin).toContain('    - {name: first, image: x, script: &s y}\n    - {name: second, image: x, script: *s}\n');
  expect(twin).toContain('- *d');
});
