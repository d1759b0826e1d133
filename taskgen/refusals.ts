import type { MergedStep } from './merged-step.ts';
import { planPodmanOptions } from './podman-options.ts';
import { type StepTemplate, type Task, hasScript } from './task.ts';

/** Fields of a step that the twin carries over, or that are as good for the step on the cluster's side. */
const STEP_FIELDS: ReadonlySet<string> = new Set(
  (
    'name displayName image imagePullPolicy script command args env workingDir volumeMounts securityContext ' +
    'computeResources timeout onError when stdoutConfig stderrConfig'
  ).split(' '),
);
const TEMPLATE_FIELDS: ReadonlySet<string> = new Set(
  'image imagePullPolicy env workingDir volumeMounts securityContext computeResources'.split(' '),
);
const WHY: Readonly<Record<string, string>> = {
  ref: 'what a StepAction does is not in this Task',
  envFrom: 'its variables are not known beforehand; list them under env',
  volumeDevices: 'devices are not on the host',
  workspaces: 'isolated workspaces cannot be carried over',
  results: 'results of a step cannot be carried over; results of the Task can',
};

/** Which the shell owns or reads itself (bash(1), Shell Variables): a value set from outside would not arrive. */
const SHELLS_OWN =
  /^(?:_|BASH.*|COMP_.*|DIRSTACK|EPOCH.*|EUID|FUNCNAME|GROUPS|HISTCMD|IFS|LINENO|MAPFILE|OLDPWD|OPTARG|OPTERR|OPTIND|PIPESTATUS|PPID|PS4|PWD|RANDOM|READLINE.*|SECONDS|SHELLOPTS|SHLVL|SRANDOM|UID)$/;

const ORDINARY_RESOURCE = /^(?:cpu|memory|ephemeral-storage|hugepages-.+)$/;

/** Files that Tekton keeps on the cluster's side. */
const LOCAL_VARIABLE = /\$\((?:step\.|artifacts\.|credentials\.path|steps\.[^)]*\.(?:exitCode\.path|outputs?))[^)]*\)/g;

/** Why a step cannot run remotely, apart from its mounts and what it calls its image; empty where it can. */
export function refusals({ spec }: Task, { step, image, env, securityContext }: MergedStep): string[] {
  const template: StepTemplate = spec.stepTemplate ?? {};
  const hasCommand = (step.command?.length ?? 0) > 0;
  return [
    ...unknownFields(step, STEP_FIELDS, ''),
    ...unknownFields(template, TEMPLATE_FIELDS, 'stepTemplate.'),
    ...(image === undefined ? ['it has no image'] : []),
    ...(hasScript(step) || hasCommand || step['ref'] !== undefined
      ? []
      : ['it has neither script nor command, and what its image would run is not known']),
    ...(hasScript(step) && hasCommand ? ['it has both script and command'] : []),
    ...(step.script === '' && hasCommand ? ['its script is empty: leave it out'] : []),
    ...(step.script?.trimStart().startsWith('#!win') === true ? ['its script is for Windows'] : []),
    ...(spec.sidecars ?? []).map(({ name }) => `sidecar ${name}: a step on another machine does not reach it`),
    ...env.flatMap(({ name }) => variableProblems(name)),
    ...[step, template].flatMap(({ computeResources }) =>
      Object.keys({ ...computeResources?.limits, ...computeResources?.requests })
        .filter((resource) => !ORDINARY_RESOURCE.test(resource))
        .map((resource) => `computeResources: ${resource} is not on the host`),
    ),
    ...[...JSON.stringify(step).matchAll(LOCAL_VARIABLE)].map(([variable]) => `${variable} is not on the host`),
    ...planPodmanOptions(securityContext).reasons,
  ];
}

function unknownFields(fields: object, known: ReadonlySet<string>, prefix: string): string[] {
  return Object.entries(fields)
    .filter(([field, value]) => !known.has(field) && value !== null && value !== undefined)
    .map(([field]) => `${prefix}${field}: ${WHY[field] ?? 'cannot be carried over'}`);
}

function variableProblems(name: string): string[] {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) return [`env ${name}: no shell can set a variable of this name`];
  if (SHELLS_OWN.test(name)) return [`env ${name}: the shell sets this variable itself`];
  return name === 'BUILDER_IMAGE' ? ['env BUILDER_IMAGE: the remote step needs this name for its image'] : [];
}
