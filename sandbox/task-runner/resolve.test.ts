import { describe, expect, it } from 'vitest';
import { resolveTaskSpec } from './resolve.ts';
import type { Task, TaskRunSpec, TaskSpec } from './tekton-types.ts';
import { taskRunWith } from './testing.ts';

function scriptOf(script: string, spec: Omit<TaskSpec, 'steps'> = {}, run: TaskRunSpec = {}): string | undefined {
  return resolved({ ...spec, steps: [{ name: 's', image: 'i', script }] }, run).steps?.[0]?.script;
}

function resolved(spec: TaskSpec, run: TaskRunSpec = {}): TaskSpec {
  const task: Task = { metadata: { name: 'build' }, spec };
  return resolveTaskSpec(taskRunWith({ taskRef: { name: 'build' }, ...run }), task);
}

describe('a Task as a TaskRun runs it', () => {
  it.each([
    ['$(context.taskRun.name)', 'run'],
    ['$(context.taskRun.namespace)/$(context.task.name)', 'builds/build'],
    ['$(context.taskRun.uid)-$(context.task.retry-count)', 'uid-1-0'],
    ['$(results.digest.path)', '/tekton/results/digest'],
    [`$(results["digest"].path) $(results['digest'].path)`, '/tekton/results/digest /tekton/results/digest'],
    ['$(workspaces.source.path) $(workspaces.source.bound)', '/workspace/source true'],
    ['[$(workspaces.extra.path)] $(workspaces.extra.bound)', '[] false'],
    ['$(params.who)', 'me'],
    [`$(params["who"]) $(params['who'])`, 'me me'],
    ['$(params.list[1])', 'two'],
    ['$(params.object.key)', 'value'],
    ['$(params.greeting)', 'hello me'],
    ['$(date) $(params.unknown) ${HOME} $$', '$(date) $(params.unknown) ${HOME} $$'],
  ])('has %s replaced by %s', (script, expected) => {
    const spec: TaskSpec = {
      params: [
        { name: 'greeting', default: 'hello $(params.who)' },
        { name: 'who', default: 'me' },
        { name: 'list', type: 'array', default: ['one', 'two'] },
        { name: 'object', type: 'object', default: { key: 'value' } },
      ],
      results: [{ name: 'digest' }],
      workspaces: [{ name: 'source' }, { name: 'extra', optional: true }],
    };
    expect(scriptOf(script, spec, { workspaces: [{ name: 'source', emptyDir: {} }] })).toBe(expected);
  });

  it('takes the values of the TaskRun before the defaults, key by key in an object', () => {
    const spec: TaskSpec = {
      params: [
        { name: 'who', default: 'default' },
        { name: 'object', type: 'object', default: { a: '1', b: '2' } },
      ],
    };
    const run: TaskRunSpec = {
      params: [
        { name: 'who', value: 'given' },
        { name: 'object', value: { b: '3' } },
      ],
    };
    expect(scriptOf('$(params.who) $(params.object.a) $(params.object.b)', spec, run)).toBe('given 1 3');
  });

  it('replaces a context variable that came in with a param, but no param that came in with a param', () => {
    const spec: TaskSpec = { params: [{ name: 'a' }, { name: 'b' }] };
    const run: TaskRunSpec = {
      params: [
        { name: 'a', value: '$(params.b) $(context.taskRun.name)' },
        { name: 'b', value: 'b' },
      ],
    };
    expect(scriptOf('$(params.a)', spec, run)).toBe('$(params.b) run');
  });

  it('makes several arguments of an array, empty ones and none among them', () => {
    const steps = [
      { name: 's', image: 'i', command: ['c'], args: ['first', '$(params.list[*])', '$(params.none[*])', 'last'] },
    ];
    const run: TaskRunSpec = {
      params: [
        { name: 'list', value: ['', 'a b', '$(params.none)'] },
        { name: 'none', value: [] },
      ],
    };
    const params = [
      { name: 'list', type: 'array' as const },
      { name: 'none', type: 'array' as const },
    ];
    expect(resolved({ params, steps }, run).steps?.[0]?.args).toEqual(['first', '', 'a b', '$(params.none)', 'last']);
  });

  it('names the Secret of this TaskRun in its volumes', () => {
    const volumes = [{ name: 'ssh', secret: { secretName: 'multi-platform-ssh-$(context.taskRun.name)' } }];
    expect(resolved({ volumes, steps: [] }).volumes?.[0]?.secret?.secretName).toBe('multi-platform-ssh-run');
  });

  it('leaves params, results and descriptions as they were written', () => {
    const spec: TaskSpec = { description: '$(params.a)', params: [{ name: 'a', default: '$(context.taskRun.name)' }] };
    expect(resolved(spec)).toEqual(spec);
  });

  it('may be written into the TaskRun, with workspaces that it does not declare', () => {
    const run = taskRunWith({
      taskSpec: { steps: [{ name: 's', image: 'i', script: '$(workspaces.w.path)' }] },
      workspaces: [{ name: 'w', emptyDir: {} }],
    });
    expect(resolveTaskSpec(run, null).steps?.[0]?.script).toBe('/workspace/w');
  });

  it.each<[string, TaskSpec, RegExp]>([
    ['a param without a value', { params: [{ name: 'A' }, { name: 'B' }] }, /missing values .* \[A B\]/],
    ['a workspace that is not bound', { workspaces: [{ name: 'w' }] }, /does not bind: w/],
  ])('is refused for %s', (_, spec, message) => {
    expect(() => resolved(spec)).toThrow(message);
  });

  it('is refused for a param of the wrong type', () => {
    const run: TaskRunSpec = { params: [{ name: 'A', value: ['x'] }] };
    expect(() => resolved({ params: [{ name: 'A' }] }, run)).toThrow(/param A is of type array/);
  });
});
