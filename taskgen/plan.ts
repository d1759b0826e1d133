import { type Carried, planCarried } from './carried.ts';
import { TASKGEN_ERROR, TaskgenError } from './errors.ts';
import { type ImagePlan, planImages, titleOf } from './images.ts';
import { mergeStep } from './merged-step.ts';
import { planPodmanOptions } from './podman-options.ts';
import { refusals } from './refusals.ts';
import { type Step, type Task, hasScript } from './task.ts';

/** All that the twin differs in. */
export interface Plan {
  readonly name: string;
  /** Of the step that runs remotely. */
  readonly position: number;
  readonly image: string;
  readonly images: ImagePlan;
  readonly remote: RemoteStep;
}

/** What the remote script is told. */
export interface RemoteStep {
  readonly form: 'script' | 'command';
  readonly carried: readonly Carried[];
  /** Where the image comes back to; undefined where none does. */
  readonly storage: string | undefined;
  /** Variables whose values travel. */
  readonly envNames: readonly string[];
  /** Those of them that name the image. */
  readonly imageNames: readonly string[];
  readonly podmanOptions: readonly string[];
}

/** Steps that build, by the names that stock Tasks give them. */
const BUILD_STEPS = ['build', 'build-container'];

/**
 * @param stepName undefined for the step that builds
 * @throws TaskgenError `no-such-step`; `refused`, with every reason
 */
export function planTwin(task: Task, stepName: string | undefined): Plan {
  const position = positionOf(task.spec.steps, stepName);
  const step = mergeStep(task, task.spec.steps[position] ?? {});
  const { carried, storage, reasons } = planCarried(task, step);
  const images = planImages(task, position);
  const ofStep = [...refusals(task, step), ...reasons, ...imageProblems(storage, images), ...volumeNames(task)];
  const title = titleOf(step.step, position);
  const all = [...ofStep.map((reason) => `${title}: ${reason}`), ...images.reasons];
  if (all.length > 0) {
    const message = `${title} of Task ${task.metadata.name} cannot run remotely`;
    throw new TaskgenError(TASKGEN_ERROR.refused, message, { reasons: [...new Set(all)] });
  }
  return {
    name: twinName(task.metadata.name),
    position,
    image: step.image ?? '',
    images,
    remote: {
      form: hasScript(step.step) ? 'script' : 'command',
      carried,
      storage,
      envNames: step.env.map(({ name }) => name),
      imageNames: images.names,
      podmanOptions: planPodmanOptions(step.securityContext).options,
    },
  };
}

function positionOf(steps: readonly Step[], wanted: string | undefined): number {
  for (const name of wanted === undefined ? BUILD_STEPS : [wanted]) {
    const position = steps.findIndex((step) => step.name === name);
    if (position >= 0) return position;
  }
  const named = steps.flatMap(({ name }) => name ?? []).join(', ');
  const missing = wanted === undefined ? `${BUILD_STEPS.join(' or ')}: say which one with --step` : wanted;
  throw new TaskgenError(
    TASKGEN_ERROR.noSuchStep,
    `the Task has no step ${missing} (it has ${named || 'none with a name'})`,
  );
}

function imageProblems(storage: string | undefined, { names }: ImagePlan): string[] {
  return storage !== undefined && names.length === 0
    ? [`the image in ${storage} comes back by its name: it needs an env IMAGE that says it`]
    : [];
}

function volumeNames({ spec }: Task): string[] {
  return spec.volumes?.some(({ name }) => name === 'ssh') === true ? ['volume ssh: the twin needs this name'] : [];
}

function twinName(name: string): string {
  return name.includes('buildah') ? name.replace('buildah', 'buildah-remote') : `${name}-remote`;
}
