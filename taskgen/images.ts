import { PLATFORM_PARAM } from '#shared/names.ts';
import { type MergedStep, mergeStep } from './merged-step.ts';
import { type EnvVar, type Step, type Task, hasScript } from './task.ts';

/** Variables that hold the name of the image, and what must be done so that the platform can become part of it. */
export interface ImagePlan {
  /** Of the remote step, in the order of its environment. */
  readonly names: readonly string[];
  /** Lists of variables that get the params' values: `template`, or the position of a step. */
  readonly declareIn: readonly ('template' | number)[];
  /** Steps whose script appends the platform to these variables. */
  readonly appendIn: readonly { readonly position: number; readonly names: readonly string[] }[];
  readonly reasons: readonly string[];
}

export const APPEND_PARAM = 'IMAGE_APPEND_PLATFORM';

const IMAGE_PARAM = /\$\(params(?:\.IMAGE|\[(?:"IMAGE"|'IMAGE')\])\)/g;
const SHELL = /^#! *(?:\/usr)?(?:\/local)?\/bin\/(?:env +)?(?:|a|ba|da|k|mk|z)sh(?:\s|$)/;

/** @param remote position of the step that runs remotely */
export function planImages(task: Task, remote: number): ImagePlan {
  const { steps, stepTemplate } = task.spec;
  const ofTemplate = namesIn(stepTemplate?.env);
  const views = steps.map((step, position) => {
    const merged = mergeStep(task, step);
    return { step, position, names: namesIn(merged.env), own: namesIn(step.env), merged };
  });
  const others = views.filter(({ position, names }) => position !== remote && names.length > 0);
  const strangers = others
    .filter(({ step }) => !isShellScript(step))
    .map((view) => ({ ...view, names: view.names.filter((name) => uses(view.step, name)) }))
    .filter(({ names }) => names.length > 0);
  const ownPositions = views.filter(({ own }) => own.length > 0).map(({ position }) => position);
  const declareIn = ofTemplate.length > 0 ? (['template'] as const) : ownPositions;
  // Without such a variable the twin has no param to append the platform by.
  if (declareIn.length === 0) return { names: [], declareIn, appendIn: [], reasons: [] };
  return {
    names: views[remote]?.names ?? [],
    declareIn,
    // Whether a script mentions the variable or not: what it calls has it in its environment.
    appendIn: others.filter(({ step }) => isShellScript(step)).map(({ position, names }) => ({ position, names })),
    reasons: [
      ...strangers.map(({ step, position, names }) => notShell(step, position, names)),
      ...views.filter(({ merged }) => hasImageParam(merged)).map(({ step, position }) => directUse(step, position)),
      ...taken(task),
    ],
  };
}

function namesIn(env: readonly EnvVar[] | null | undefined): string[] {
  return (env ?? []).filter(isImageVariable).map(({ name }) => name);
}

function isImageVariable({ name, value }: EnvVar): boolean {
  return name === 'IMAGE' || (value !== undefined && value.match(IMAGE_PARAM)?.[0] === value);
}

/** Whether what is no shell script uses the variable: for sure only where it mentions or declares it. */
function uses(step: Step, name: string): boolean {
  const { script, command, args, env } = step;
  const mentions = new RegExp(String.raw`\b${name}\b`).test(
    stringsIn([script, command, args]).join('\n').replaceAll(IMAGE_PARAM, ''),
  );
  return mentions || (!hasScript(step) && namesIn(env).includes(name));
}

function isShellScript(step: Step): boolean {
  const { script = '' } = step;
  return hasScript(step) && (!script.trimStart().startsWith('#!') || SHELL.test(script));
}

/** Anywhere but in a variable for it, and in what people read. */
function hasImageParam({ step, image, env }: MergedStep): boolean {
  const fields = { ...step, image, displayName: '', env: env.filter((variable) => !isImageVariable(variable)) };
  return stringsIn(fields).some((text) => text.search(IMAGE_PARAM) >= 0);
}

function stringsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(stringsIn) : [];
}

function directUse(step: Step, position: number): string {
  return `${titleOf(step, position)} uses $(params.IMAGE) itself, where no platform can be appended: it needs an env IMAGE for it`;
}

function notShell(step: Step, position: number, names: readonly string[]): string {
  return `${titleOf(step, position)} uses ${names.join(' and ')}, but is no shell script that could append the platform`;
}

function taken({ spec }: Task): string[] {
  const env = [spec.stepTemplate, ...spec.steps].flatMap((step) => step?.env ?? []);
  return [
    ...env
      .filter(({ name }) => name === PLATFORM_PARAM || name === APPEND_PARAM)
      .map(({ name }) => `env ${name}: the twin needs this name`),
    ...(spec.params ?? [])
      .filter(({ name }) => name === APPEND_PARAM)
      .map(({ name }) => `param ${name}: the twin needs this name`),
  ];
}

export function titleOf({ name }: Step, position: number): string {
  return `step ${name ?? `${position + 1}`}`;
}
