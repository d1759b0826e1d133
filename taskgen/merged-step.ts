import type { EnvVar, SecurityContext, Step, StepTemplate, Task, VolumeMount } from './task.ts';

/** A step with what the template of all steps adds to it, merged as Tekton merges: names and paths of the step's own win. */
export interface MergedStep {
  readonly step: Step;
  readonly image: string | undefined;
  readonly env: readonly EnvVar[];
  readonly volumeMounts: readonly VolumeMount[];
  readonly securityContext: Readonly<SecurityContext>;
}

export function mergeStep({ spec }: Task, step: Step): MergedStep {
  const template: StepTemplate = spec.stepTemplate ?? {};
  const capabilities = { ...template.securityContext?.capabilities, ...step.securityContext?.capabilities };
  return {
    step,
    image: step.image ?? template.image,
    env: mergeBy(({ name }) => name, template.env, step.env),
    volumeMounts: mergeBy(({ mountPath }) => mountPath, template.volumeMounts, step.volumeMounts),
    securityContext: { ...template.securityContext, ...step.securityContext, capabilities },
  };
}

function mergeBy<T>(keyOf: (item: T) => string, ...lists: readonly (readonly T[] | null | undefined)[]): T[] {
  return [...new Map(lists.flatMap((list) => list ?? []).map((item) => [keyOf(item), item])).values()];
}
