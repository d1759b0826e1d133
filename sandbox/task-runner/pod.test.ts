import { describe, expect, it } from 'vitest';
import { parseEntrypoint } from './entrypoint.ts';
import { podName, podOf } from './pod.ts';
import type { Container } from './pod-types.ts';
import type { Step, StepTemplate, TaskRunSpec, TaskSpec } from './tekton-types.ts';
import { taskRunWith } from './testing.ts';

function containerOf(step: Step, stepTemplate?: StepTemplate): Container {
  const spec: TaskSpec = { steps: [step], ...(stepTemplate && { stepTemplate }) };
  const [container] = podOf(taskRunWith({}), spec).spec.containers;
  if (container === undefined) throw new Error('no container');
  return container;
}

describe('the Pod of a TaskRun', () => {
  it('is called after it, and after the retry', () => {
    expect(podName(taskRunWith({}))).toBe('run-pod');
    expect(podName(taskRunWith({}, { podName: '', retriesStatus: [{ podName: 'run-pod' }] }))).toBe('run-pod-retry1');
  });

  it('has a name of at most 63 characters that differs where the TaskRuns do', () => {
    const names = ['a', 'b'].map((end) => podName({ metadata: { name: `${'x'.repeat(90)}${end}` }, spec: {} }));
    expect(names.map((name) => name.length)).toEqual([63, 63]);
    expect(names[0]).not.toBe(names[1]);
  });

  it('belongs to it', () => {
    const { metadata } = podOf(taskRunWith({}), { steps: [{ image: 'i', script: 'true' }] });
    expect(metadata.ownerReferences).toMatchObject([{ kind: 'TaskRun', name: 'run', uid: 'uid-1', controller: true }]);
    expect(metadata.labels).toMatchObject({ 'tekton.dev/taskRun': 'run' });
  });

  it('holds scripts as they are, with a first line where they have none', () => {
    const steps = [
      { name: 'a', image: 'i', script: '#!/usr/bin/env python3\nprint("$")' },
      { image: 'i', script: 'echo' },
    ];
    const args = podOf(taskRunWith({}), { steps }).spec.initContainers?.[0]?.args ?? [];
    const [path0, script0 = '', path1, script1 = ''] = args;
    expect([path0, path1]).toEqual(['/tekton/scripts/script-0-a', '/tekton/scripts/script-1-unnamed-1']);
    expect(Buffer.from(script0, 'base64').toString()).toBe('#!/usr/bin/env python3\nprint("$")');
    expect(Buffer.from(script1, 'base64').toString()).toBe('#!/bin/sh\nset -e\necho');
  });

  it.each<[string, Step, string[]]>([
    [
      'a script and its arguments',
      { name: 's', image: 'i', script: 'true', args: ['a', '--'] },
      ['/tekton/scripts/script-0-s', 'a', '--'],
    ],
    [
      'a command and its arguments',
      { name: 's', image: 'i', command: ['c', '-x'], args: ['--', ''] },
      ['c', '-x', '--', ''],
    ],
  ])('carries %s through its entrypoint', (_, step, argv) => {
    expect(parseEntrypoint(containerOf(step).args ?? []).argv).toEqual(argv);
  });

  it('carries results, onError and timeout through its entrypoint', () => {
    const spec: TaskSpec = {
      results: [{ name: 'a' }, { name: 'b' }],
      steps: [{ image: 'i', script: 'x', onError: 'continue', timeout: '1m30s' }],
    };
    const [container] = podOf(taskRunWith({}), spec).spec.containers;
    expect(parseEntrypoint(container?.args ?? [])).toMatchObject({
      results: ['a', 'b'],
      continueOnError: true,
      timeoutMs: 90_000,
    });
  });

  it('merges the template into each step, the step first', () => {
    const template: StepTemplate = {
      image: 'template',
      workingDir: '/w',
      env: [
        { name: 'A', value: 'template' },
        { name: 'B', value: 'template' },
      ],
      volumeMounts: [
        { name: 'x', mountPath: '/x' },
        { name: 'y', mountPath: '/y' },
      ],
    };
    const container = containerOf(
      { script: 'x', env: [{ name: 'A', value: 'step' }], volumeMounts: [{ name: 'z', mountPath: '/y' }] },
      template,
    );
    expect(container).toMatchObject({ image: 'template', workingDir: '/w' });
    expect(container.env).toEqual([
      { name: 'B', value: 'template' },
      { name: 'A', value: 'step' },
    ]);
    expect(container.volumeMounts?.slice(0, 2)).toEqual([
      { name: 'x', mountPath: '/x' },
      { name: 'z', mountPath: '/y' },
    ]);
  });

  it('mounts a workspace where its declaration says', () => {
    const run: TaskRunSpec = {
      workspaces: [
        { name: 'other', emptyDir: {} },
        { name: 'w', subPath: 'sub', secret: { secretName: 's' } },
      ],
    };
    const spec: TaskSpec = {
      workspaces: [{ name: 'w', mountPath: '/here', readOnly: true }],
      steps: [{ image: 'i', script: 'x' }],
    };
    const pod = podOf(taskRunWith(run), spec);
    expect(pod.spec.volumes).toContainEqual({ name: 'ws-1', secret: { secretName: 's' } });
    expect(pod.spec.containers[0]?.volumeMounts).toContainEqual({
      name: 'ws-1',
      mountPath: '/here',
      subPath: 'sub',
      readOnly: true,
    });
  });

  it.each<[string, TaskSpec, RegExp]>([
    ['no step', {}, /needs a step/],
    ['a sidecar', { steps: [{ image: 'i', script: 'x' }], sidecars: [{}] }, /sidecars/],
    ['a host path', { steps: [{ image: 'i', script: 'x' }], volumes: [{ name: 'v', hostPath: {} }] }, /volume v /],
    ['a StepAction', { steps: [{ name: 's', ref: {} }] }, /step s refers to a StepAction/],
    ['an image alone', { steps: [{ name: 's', image: 'i' }] }, /step s has neither script nor command/],
    ['no image', { steps: [{ name: 's', script: 'x' }] }, /step s has no image/],
    [
      'another user',
      { steps: [{ name: 's', image: 'i', script: 'x', securityContext: { runAsUser: 5 } }] },
      /runAsUser/,
    ],
  ])('is refused by name for %s', (_, spec, message) => {
    expect(() => podOf(taskRunWith({}), spec)).toThrow(message);
  });
});
