import { FINALIZER, LABEL, PLATFORM_PARAM, RESERVED_ANNOTATIONS, RESERVED_LABELS } from '#shared/names.ts';
import { isPlatform, PLATFORM_HINT, platformLabel } from '#shared/platform.ts';

/** One operation of a JSON Patch (RFC 6902). */
export type PatchOperation = { op: 'add'; path: string; value: unknown } | { op: 'remove'; path: string };

/** `marked`: ours, whether or not something was left to write. `malformed`: `PLATFORM` is no platform. `skipped`: no string `PLATFORM`. */
export type Outcome = 'marked' | 'malformed' | 'skipped';

export interface Mutation {
  outcome: Outcome;
  /** Applies to the object as given, and leaves an object for which it would be empty. */
  patch: PatchOperation[];
  warning?: string;
}

/** Longer text in a warning is cut: the API server shortens all warnings of a request to 4096 characters. */
const MAX_SHOWN = 40;

/**
 * What to change on a TaskRun that is being created (docs/webhook.md, "What it does to a TaskRun"). It looks at `spec.params` and at
 * `metadata` only, and takes any JSON value: the schema is checked after mutation.
 */
export function mutate(taskRun: unknown): Mutation {
  const platform = platformOf(taskRun);
  const metadata = field(taskRun, 'metadata');
  if (platform === undefined || !isObject(metadata)) return { outcome: 'skipped', patch: [] };
  const marked = isPlatform(platform);
  const patch = [
    ...labelOperations(metadata.labels, marked ? platformLabel(platform) : undefined),
    ...removals('/metadata/annotations', metadata.annotations, RESERVED_ANNOTATIONS),
    ...(marked ? finalizerOperations(metadata.finalizers) : []),
  ];
  return marked ? { outcome: 'marked', patch } : { outcome: 'malformed', patch, warning: warningFor(platform) };
}

function platformOf(taskRun: unknown): string | undefined {
  const params = field(field(taskRun, 'spec'), 'params');
  if (!Array.isArray(params)) return undefined;
  const param: unknown = params.find((candidate) => field(candidate, 'name') === PLATFORM_PARAM);
  const value = field(param, 'value');
  return typeof value === 'string' ? value : undefined;
}

function labelOperations(labels: unknown, platform: string | undefined): PatchOperation[] {
  if (platform === undefined) return removals('/metadata/labels', labels, RESERVED_LABELS);
  if (!isObject(labels)) return [{ op: 'add', path: '/metadata/labels', value: { [LABEL.targetPlatform]: platform } }];
  const others = RESERVED_LABELS.filter((label) => label !== LABEL.targetPlatform);
  const operations = removals('/metadata/labels', labels, others);
  if (labels[LABEL.targetPlatform] !== platform) {
    operations.push({ op: 'add', path: pointer('/metadata/labels', LABEL.targetPlatform), value: platform });
  }
  return operations;
}

function finalizerOperations(finalizers: unknown): PatchOperation[] {
  if (!Array.isArray(finalizers)) return [{ op: 'add', path: '/metadata/finalizers', value: [FINALIZER] }];
  return finalizers.includes(FINALIZER) ? [] : [{ op: 'add', path: '/metadata/finalizers/-', value: FINALIZER }];
}

function removals(path: string, map: unknown, keys: readonly string[]): PatchOperation[] {
  if (!isObject(map)) return [];
  return keys.filter((key) => Object.hasOwn(map, key)).map((key) => ({ op: 'remove', path: pointer(path, key) }));
}

function warningFor(platform: string): string {
  const shown = JSON.stringify(platform.length > MAX_SHOWN ? `${platform.slice(0, MAX_SHOWN)}…` : platform);
  const why = platform.includes('$(')
    ? "holds a variable, and nothing replaces variables in a TaskRun's own params"
    : 'is not a platform';
  return `spec.params ${PLATFORM_PARAM} ${shown} ${why}, so no build host is looked for: ${PLATFORM_HINT}`;
}

/** RFC 6901. */
function pointer(path: string, key: string): string {
  return `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function field(value: unknown, key: string): unknown {
  return isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
}
