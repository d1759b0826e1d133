import { AppError } from '#shared/errors.ts';
import { substitute, type Replacements } from './substitution.ts';
import type { ParamSpec, ParamType, ParamValue, Task, TaskRun, TaskSpec } from './tekton-types.ts';

/** The code is the reason that the TaskRun's condition shows. */
export class TaskRunError extends AppError {}

/**
 * The Task as this TaskRun runs it: what Tekton writes to `status.taskSpec`, with every `$(…)` replaced. `task` is null where the
 * TaskRun brings its own `taskSpec`.
 *
 * @throws TaskRunError `TaskRunValidationFailed`
 */
export function resolveTaskSpec(taskRun: TaskRun, task: Task | null): TaskSpec {
  const spec = task?.spec ?? taskRun.spec.taskSpec;
  if (spec === undefined) throw invalid('a TaskRun needs taskRef or taskSpec');
  const taskName = task?.metadata.name ?? taskRun.metadata.name;
  checkParams(taskRun, spec, taskName);
  checkWorkspaces(taskRun, spec, taskName);
  // Tekton's order: a param's value may hold a context variable, and that one is replaced as well.
  return [paramsOf(taskRun, spec), contextOf(taskRun, taskName), resultsOf(spec), workspacesOf(taskRun, spec)].reduce(
    applyTo,
    structuredClone(spec),
  );
}

function applyTo(spec: TaskSpec, replacements: Replacements): TaskSpec {
  const { steps, stepTemplate, volumes, sidecars } = spec;
  return { ...spec, ...substitute(defined({ steps, stepTemplate, volumes, sidecars }), replacements) };
}

function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is undefined has just been left out
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

function checkParams(taskRun: TaskRun, spec: TaskSpec, taskName: string): void {
  const given = new Map((taskRun.spec.params ?? []).map(({ name, value }) => [name, value]));
  const missing: string[] = [];
  for (const param of spec.params ?? []) {
    const value = given.get(param.name);
    if (value === undefined) {
      if (param.default === undefined) missing.push(param.name);
    } else if (typeOf(value) !== declaredType(param)) {
      throw invalid(
        `invalid input params for task ${taskName}: param ${param.name} is of type ${typeOf(value)}, the Task wants ${declaredType(param)}`,
      );
    }
  }
  if (missing.length > 0) {
    throw invalid(
      `invalid input params for task ${taskName}: missing values for these params which have no default values: [${missing.join(' ')}]`,
    );
  }
}

function checkWorkspaces(taskRun: TaskRun, spec: TaskSpec, taskName: string): void {
  const bound = new Set((taskRun.spec.workspaces ?? []).map(({ name }) => name));
  const missing = (spec.workspaces ?? []).filter(({ name, optional }) => optional !== true && !bound.has(name));
  if (missing.length > 0) {
    throw invalid(
      `task ${taskName} declares workspaces that the TaskRun does not bind: ${missing.map((w) => w.name).join(', ')}`,
    );
  }
}

function paramsOf(taskRun: TaskRun, spec: TaskSpec): Replacements {
  const strings = new Map<string, string>();
  const arrays = new Map<string, readonly string[]>();
  const set = (name: string, value: ParamValue): void => {
    for (const variable of [`params.${name}`, `params["${name}"]`, `params['${name}']`]) {
      if (typeof value === 'string') {
        strings.set(variable, value);
      } else if (Array.isArray(value)) {
        arrays.set(variable, value);
        for (const [index, item] of value.entries()) strings.set(`${variable}[${index}]`, item);
      } else {
        for (const [key, item] of Object.entries(value)) strings.set(`${variable}.${key}`, item);
      }
    }
  };
  const given = new Map((taskRun.spec.params ?? []).map(({ name, value }) => [name, value]));
  for (const [name, value] of given) set(name, value);
  // A default may name another param, so those that do come last.
  const declared = (spec.params ?? []).toSorted((a, b) => Number(refersToParam(a)) - Number(refersToParam(b)));
  for (const { name, default: value } of declared) {
    const own = given.get(name);
    if (value === undefined || (own !== undefined && typeOf(own) !== 'object')) continue;
    set(name, substitute(value, { strings, arrays }));
    // A TaskRun may give some keys of an object and leave the others to the default.
    if (own !== undefined) set(name, own);
  }
  return { strings, arrays };
}

function refersToParam({ default: value = '' }: ParamSpec): boolean {
  return JSON.stringify(value).includes('$(params');
}

function contextOf(taskRun: TaskRun, taskName: string): Replacements {
  const { name, namespace = '', uid = '' } = taskRun.metadata;
  return {
    strings: new Map([
      ['context.taskRun.name', name],
      ['context.taskRun.namespace', namespace],
      ['context.taskRun.uid', uid],
      ['context.task.name', taskName],
      ['context.task.retry-count', String(taskRun.status?.retriesStatus?.length ?? 0)],
    ]),
  };
}

function resultsOf(spec: TaskSpec): Replacements {
  const strings = new Map<string, string>();
  for (const { name } of spec.results ?? []) {
    for (const variable of [`results.${name}.path`, `results["${name}"].path`, `results['${name}'].path`]) {
      strings.set(variable, `/tekton/results/${name}`);
    }
  }
  return { strings };
}

/** Where a workspace is mounted unless its declaration says otherwise. */
export function workspacePath({ name, mountPath }: { name: string; mountPath?: string }): string {
  return mountPath ?? `/workspace/${name}`;
}

/** The volume that the workspace bound at this place becomes. */
export function workspaceVolume(index: number): string {
  return `ws-${index}`;
}

function workspacesOf(taskRun: TaskRun, spec: TaskSpec): Replacements {
  const strings = new Map<string, string>();
  const bindings = taskRun.spec.workspaces ?? [];
  for (const declaration of declaredWorkspaces(taskRun, spec)) {
    const index = bindings.findIndex(({ name }) => name === declaration.name);
    const bound = index >= 0;
    strings.set(`workspaces.${declaration.name}.bound`, String(bound));
    strings.set(`workspaces.${declaration.name}.path`, bound ? workspacePath(declaration) : '');
    strings.set(`workspaces.${declaration.name}.volume`, bound ? workspaceVolume(index) : '');
    strings.set(`workspaces.${declaration.name}.claim`, '');
  }
  return { strings };
}

/** A `taskSpec` inside the TaskRun may use what the TaskRun binds without declaring it. */
export function declaredWorkspaces(taskRun: TaskRun, spec: TaskSpec): NonNullable<TaskSpec['workspaces']> {
  const declared = spec.workspaces ?? [];
  if (taskRun.spec.taskSpec === undefined) return declared;
  const names = new Set(declared.map(({ name }) => name));
  const undeclared = (taskRun.spec.workspaces ?? []).filter(({ name }) => !names.has(name));
  return [...declared, ...undeclared.map(({ name }) => ({ name }))];
}

function typeOf(value: ParamValue): ParamType {
  if (typeof value === 'string') return 'string';
  return Array.isArray(value) ? 'array' : 'object';
}

function declaredType({ type, default: value }: ParamSpec): ParamType {
  return type ?? (value === undefined ? 'string' : typeOf(value));
}

function invalid(message: string): TaskRunError {
  return new TaskRunError('TaskRunValidationFailed', message);
}
