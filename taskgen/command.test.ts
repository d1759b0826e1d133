import { describe, expect, test } from 'vitest';
import { type Machine, runTaskgen } from './command.ts';
import { SHORT_PARTS, taskWith, twinOf } from './testing.ts';

interface Outcome {
  readonly code: number;
  readonly files: Readonly<Record<string, string>>;
  readonly printed: string;
  readonly errors: string;
}

async function run(argv: string, files: Record<string, string>): Promise<Outcome> {
  const after = { ...files };
  let [printed, errors] = ['', ''];
  const machine: Machine = {
    read: async (path) => {
      const text = after[path];
      if (text === undefined) throw new Error(`ENOENT: no such file or directory, open '${path}'`);
      return text;
    },
    write: async (path, text) => {
      if (path.startsWith('/readonly')) throw new Error('EROFS: read-only file system');
      after[path] = text;
    },
    isSameFile: async (path, other) => path === other && path in after,
    print: (text) => (printed += text),
    printError: (text) => (errors += text),
  };
  const code = await runTaskgen(argv.split(' '), machine, SHORT_PARTS);
  return { code, files: after, printed, errors };
}

const IN = taskWith({});
const OUT = twinOf(IN);
const FILES = { 'in.yaml': IN, 'out.yaml': 'what was there before' };

test('writes the twin', async () => {
  const outcome = await run('--buildah-task in.yaml --remote-task out.yaml', FILES);
  expect(outcome).toEqual({ code: 0, files: { ...FILES, 'out.yaml': OUT }, printed: '', errors: '' });
});

test('of the step that is named', async () => {
  const task = taskWith({ name: 'cook' });
  const outcome = await run('--buildah-task in.yaml --remote-task out.yaml --step cook', { 'in.yaml': task });
  expect(outcome).toMatchObject({ code: 0, files: { 'out.yaml': twinOf(task, 'cook') } });
});

test('a dash is standard input and output', async () => {
  expect((await run('--buildah-task - --remote-task -', { '-': IN })).files).toEqual({ '-': OUT });
});

describe('--check', () => {
  test('is content with a file that is what it is to be', async () => {
    const files = { ...FILES, 'out.yaml': OUT };
    expect(await run('--buildah-task in.yaml --remote-task out.yaml --check', files)).toEqual({
      code: 0,
      files,
      printed: '',
      errors: '',
    });
  });

  test('prints what differs, ends with 1 and writes nothing', async () => {
    const files = { ...FILES, 'out.yaml': OUT.replace('name: ssh', 'name: other') };
    const outcome = await run('--buildah-task in.yaml --remote-task out.yaml --check', files);
    expect(outcome).toMatchObject({
      code: 1,
      files,
      errors: 'taskgen: out.yaml is not what it is generated from: run the same without --check\n',
    });
    expect(outcome.printed).toMatch(
      /^--- out\.yaml\n\+\+\+ what it is to be\n@@ -\d+,7 \+\d+,7 @@\n[^]*\n- +- name: other\n\+ +- name: ssh\n/,
    );
  });
});

describe('what goes wrong ends with 2, says why, and writes nothing', () => {
  test.each<[string, string, string]>([
    ['no arguments', '', 'error: '],
    ['an unknown option', '--buildah-task in.yaml --remote-task out.yaml --force', "error: unknown option '--force'"],
    [
      'no file to read',
      '--buildah-task gone.yaml --remote-task out.yaml',
      "taskgen: cannot read gone.yaml: ENOENT: no such file or directory, open 'gone.yaml'\n",
    ],
    [
      'no file to compare with',
      '--buildah-task in.yaml --remote-task gone.yaml --check',
      "taskgen: cannot read gone.yaml: ENOENT: no such file or directory, open 'gone.yaml'\n",
    ],
    [
      'a file that cannot be written',
      '--buildah-task in.yaml --remote-task /readonly/x',
      'taskgen: cannot write /readonly/x: EROFS: read-only file system\n',
    ],
    [
      'comparing with standard output',
      '--buildah-task in.yaml --remote-task - --check',
      'taskgen: --check compares with a file: --remote-task cannot be "-"\n',
    ],
    [
      'the Task’s own file for the twin',
      '--buildah-task in.yaml --remote-task in.yaml',
      'taskgen: in.yaml is the Task itself: the twin goes into another file\n',
    ],
    [
      'a step that is not there',
      '--buildah-task in.yaml --remote-task out.yaml --step x',
      'taskgen: the Task has no step x (it has build)\n',
    ],
    [
      'malformed YAML',
      '--buildah-task out.yaml --remote-task in.yaml',
      'taskgen: YAML without a kind, not a Task of tekton.dev/v1\n',
    ],
  ])('%s', async (_, argv, message) => {
    const { code, files, errors } = await run(argv, FILES);
    expect({ code, files }).toEqual({ code: 2, files: FILES });
    expect(errors).toContain(message);
  });

  test('several reasons are a line each', async () => {
    const files = { 'in.yaml': taskWith({ envFrom: [] }, { sidecars: [{ name: 'a' }] }) };
    expect((await run('--buildah-task in.yaml --remote-task out.yaml', files)).errors).toBe(
      [
        'taskgen: step build of Task example cannot run remotely',
        '  - step build: envFrom: its variables are not known beforehand; list them under env',
        '  - step build: sidecar a: a step on another machine does not reach it',
        '',
      ].join('\n'),
    );
  });
});

test('--help ends with 0', async () => {
  expect(await run('--help', {})).toMatchObject({
    code: 0,
    errors: '',
    printed: expect.stringContaining('--buildah-task <file>'),
  });
});
