import { createHash } from 'node:crypto';
import { ENTRYPOINT, entrypointArgs } from './entrypoint.ts';
import type { Container, Pod } from './pod-types.ts';
import { declaredWorkspaces, TaskRunError, workspacePath, workspaceVolume } from './resolve.ts';
import type { EnvVar, Step, StepTemplate, TaskRun, TaskSpec, VolumeMount } from './tekton-types.ts';

export const TASK_RUN_LABEL = 'tekton.dev/taskRun';

/** The init container whose arguments are pairs: the path of a script and its text in base64. */
export const PLACE_SCRIPTS = 'place-scripts';

const SCRIPTS = '/tekton/scripts';
const MAX_NAME = 63;

/** Every step sees these, as with Tekton. */
const INTERNAL: readonly VolumeMount[] = [
  { name: 'tekton-internal-workspace', mountPath: '/workspace' },
  { name: 'tekton-internal-home', mountPath: '/tekton/home' },
  { name: 'tekton-internal-results', mountPath: '/tekton/results' },
  { name: 'tekton-internal-scripts', mountPath: SCRIPTS, readOnly: true },
];

/** Tekton puts this in front of a script that has no first line of its own. */
const DEFAULT_SHEBANG = '#!/bin/sh\nset -e\n';

const PASSED_ON_AS_IS = ['emptyDir', 'secret', 'configMap'] as const;

/** `<TaskRun>-pod`, or `-pod-retry1`, …; a name that would be too long is cut and hashed. */
export function podName(taskRun: TaskRun): string {
  const retries = taskRun.status?.retriesStatus?.length ?? 0;
  const suffix = retries === 0 ? '-pod' : `-pod-retry${retries}`;
  const { name } = taskRun.metadata;
  if (name.length + suffix.length <= MAX_NAME) return name + suffix;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 32);
  return name.slice(0, MAX_NAME - hash.length - suffix.length) + hash + suffix;
}

export function stepName(step: Step, index: number): string {
  return step.name === undefined || step.name === '' ? `unnamed-${index}` : step.name;
}

/**
 * The Pod that runs this TaskRun. `spec` is resolved.
 *
 * @throws TaskRunError `TaskRunValidationFailed` for what the stand-in cannot run, by name
 */
export function podOf(taskRun: TaskRun, spec: TaskSpec): Pod {
  const { name, namespace, uid = '', labels, annotations } = taskRun.metadata;
  refuseUnsupported(taskRun, spec);
  const steps = (spec.steps ?? []).map((step) => withTemplate(step, spec.stepTemplate));
  const workspaces = workspaceMounts(taskRun, spec);
  const scripts = steps.flatMap((step, index) =>
    step.script === undefined
      ? []
      : [scriptPath(step, index), Buffer.from(withShebang(step.script)).toString('base64')],
  );
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: podName(taskRun),
      ...(namespace !== undefined && { namespace }),
      labels: {
        ...labels,
        'app.kubernetes.io/managed-by': 'tekton-pipelines',
        [TASK_RUN_LABEL]: name,
        'tekton.dev/taskRunUID': uid,
      },
      ...(annotations !== undefined && { annotations }),
      ownerReferences: [
        { apiVersion: 'tekton.dev/v1', kind: 'TaskRun', name, uid, controller: true, blockOwnerDeletion: true },
      ],
    },
    spec: {
      restartPolicy: 'Never',
      serviceAccountName: taskRun.spec.serviceAccountName ?? 'default',
      initContainers: [
        {
          name: PLACE_SCRIPTS,
          image: 'stand-in',
          args: scripts,
          volumeMounts: [{ name: 'tekton-internal-scripts', mountPath: SCRIPTS }],
        },
      ],
      containers: steps.map((step, index) => containerOf(step, index, spec, workspaces)),
      volumes: [
        ...INTERNAL.map((mount) => ({ name: mount.name, emptyDir: {} })),
        ...(taskRun.spec.workspaces ?? []).map(({ emptyDir, secret, configMap }, index) => ({
          name: workspaceVolume(index),
          ...(emptyDir !== undefined && { emptyDir }),
          ...(secret !== undefined && { secret }),
          ...(configMap !== undefined && { configMap }),
        })),
        ...(spec.volumes ?? []),
      ],
    },
  };
}

function containerOf(step: Step, index: number, spec: TaskSpec, workspaces: readonly VolumeMount[]): Container {
  const {
    image = '',
    command,
    args = [],
    env,
    workingDir,
    volumeMounts = [],
    computeResources,
    securityContext,
  } = step;
  const argv = step.script === undefined ? [...(command ?? []), ...args] : [scriptPath(step, index), ...args];
  const taken = new Set(volumeMounts.map(({ mountPath }) => mountPath));
  return {
    name: `step-${stepName(step, index)}`,
    image,
    command: [ENTRYPOINT],
    args: entrypointArgs({
      results: (spec.results ?? []).map((result) => result.name),
      onError: step.onError,
      timeout: step.timeout,
      argv,
    }),
    ...(env !== undefined && { env }),
    ...(workingDir !== undefined && { workingDir }),
    ...(computeResources !== undefined && { resources: computeResources }),
    ...(securityContext !== undefined && { securityContext }),
    volumeMounts: [...volumeMounts, ...[...workspaces, ...INTERNAL].filter(({ mountPath }) => !taken.has(mountPath))],
  };
}

function workspaceMounts(taskRun: TaskRun, spec: TaskSpec): VolumeMount[] {
  const bindings = taskRun.spec.workspaces ?? [];
  return declaredWorkspaces(taskRun, spec).flatMap((declaration) => {
    const index = bindings.findIndex(({ name }) => name === declaration.name);
    const subPath = bindings[index]?.subPath;
    if (index < 0) return [];
    return [
      {
        name: workspaceVolume(index),
        mountPath: workspacePath(declaration),
        ...(subPath !== undefined && { subPath }),
        ...(declaration.readOnly === true && { readOnly: true }),
      },
    ];
  });
}

/** A step's own fields win; variables and mounts are merged by their name and path. */
function withTemplate(step: Step, template: StepTemplate = {}): Step {
  const env = mergeBy((variable: EnvVar) => variable.name, template.env, step.env);
  const volumeMounts = mergeBy((mount: VolumeMount) => mount.mountPath, template.volumeMounts, step.volumeMounts);
  return { ...template, ...step, ...(env && { env }), ...(volumeMounts && { volumeMounts }) };
}

function mergeBy<T>(keyOf: (item: T) => string, base: T[] | undefined, over: T[] | undefined): T[] | undefined {
  if (base === undefined || over === undefined) return over ?? base;
  const replaced = new Set(over.map(keyOf));
  return [...base.filter((item) => !replaced.has(keyOf(item))), ...over];
}

function scriptPath(step: Step, index: number): string {
  return `${SCRIPTS}/script-${index}-${stepName(step, index)}`;
}

function withShebang(script: string): string {
  return script.startsWith('#!') ? script : DEFAULT_SHEBANG + script;
}

function refuseUnsupported(taskRun: TaskRun, spec: TaskSpec): void {
  const refusals = [
    ...(spec.steps ?? []).map((step, index) =>
      stepRefusal(withTemplate(step, spec.stepTemplate), stepName(step, index)),
    ),
    (spec.steps ?? []).length === 0 ? 'a Task needs a step' : undefined,
    (spec.sidecars ?? []).length > 0 ? 'sidecars' : undefined,
    ...(spec.volumes ?? []).map((volume) => volumeRefusal(`volume ${volume.name}`, volume)),
    ...(taskRun.spec.workspaces ?? []).map((workspace) => volumeRefusal(`workspace ${workspace.name}`, workspace)),
  ].filter((refusal) => refusal !== undefined);
  if (refusals.length > 0) {
    throw new TaskRunError(
      'TaskRunValidationFailed',
      `the stand-in for Tekton cannot run this: ${refusals.join('; ')}`,
    );
  }
}

function stepRefusal(step: Step, name: string): string | undefined {
  if (step.ref !== undefined) return `step ${name} refers to a StepAction`;
  if (step.image === undefined) return `step ${name} has no image`;
  if (step.script === undefined && (step.command ?? []).length === 0) {
    return `step ${name} has neither script nor command (images are not pulled, so their entrypoint is not known)`;
  }
  if (step.envFrom !== undefined) return `step ${name} has envFrom`;
  if (step.volumeDevices !== undefined) return `step ${name} has volumeDevices`;
  if (step.workspaces !== undefined) return `step ${name} has workspaces of its own`;
  if ((step.securityContext?.runAsUser ?? 0) !== 0) return `step ${name} has a runAsUser other than 0`;
  return undefined;
}

function volumeRefusal(what: string, source: object): string | undefined {
  return PASSED_ON_AS_IS.some((kind) => kind in source)
    ? undefined
    : `${what} is neither emptyDir, secret nor configMap`;
}
