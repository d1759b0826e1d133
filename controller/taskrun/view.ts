import {
  ANNOTATION,
  FINALIZER,
  LABEL,
  PLATFORM_PARAM,
  RESERVED_ANNOTATIONS,
  RESERVED_LABELS,
  secretName,
} from '#shared/names.ts';
import { HOST_NAME } from '#shared/host-config.ts';
import { cachedMeta, type Cached } from '#shared/kubernetes/reflector.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';

/** A Tekton v1 TaskRun. The CRD preserves unknown fields, so anything may be of another shape than Tekton's own API says. */
export interface TaskRun extends KubeObject {
  spec?: unknown;
  status?: unknown;
}

/** The parameter `PLATFORM`: a string, of another type, or not there. */
export type PlatformParam = { kind: 'string'; value: string } | { kind: 'other' } | { kind: 'none' };

/** What is kept of a TaskRun: all that a decision needs, and nothing else. */
export interface TaskRunView extends Cached {
  readonly createdAt: string;
  readonly platform: PlatformParam;
  /** Whether `status.taskSpec` mounts our Secret; `unresolved` while Tekton has not written it. */
  readonly mount: 'unresolved' | 'mounted' | 'not-mounted';
  readonly done: boolean;
  readonly deleting: boolean;
  /** When it ended or began to be deleted: milliseconds since 1970. */
  readonly endedAtMs: number | undefined;
  readonly podName: string | undefined;
  /** All finalizers, as they are on the object: a merge patch replaces the whole list. */
  readonly finalizers: readonly string[];
  readonly hasFinalizer: boolean;
  /** Our labels and annotations as they are on the object, whoever wrote them. */
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Milliseconds after which Tekton ends it, retries included; undefined where it says nothing or `0`. */
  readonly timeoutMs: number | undefined;
}

/** More than any platform has: two labels of 63 characters each, and the slash. */
const MAX_PLATFORM_LENGTH = 200;

const KEPT_LABELS: ReadonlySet<string> = new Set(RESERVED_LABELS);
const KEPT_ANNOTATIONS: ReadonlySet<string> = new Set(RESERVED_ANNOTATIONS);

/** Cuts a TaskRun down to its view. Never throws, whatever a TaskRun looks like. */
export function viewOf(taskRun: TaskRun): TaskRunView {
  const { metadata, spec, status } = taskRun;
  const finalizers = listOf(metadata.finalizers).filter((finalizer) => typeof finalizer === 'string');
  const deletedAt = textOf(metadata.deletionTimestamp);
  const endedAtMs = Date.parse(deletedAt ?? textOf(at(status, 'completionTime')) ?? '');
  return {
    ...cachedMeta(taskRun),
    createdAt: textOf(metadata.creationTimestamp) ?? '',
    platform: platformOf(spec),
    mount: mountOf(taskRun),
    done: isDone(status),
    deleting: deletedAt !== undefined,
    endedAtMs: Number.isNaN(endedAtMs) ? undefined : endedAtMs,
    podName: textOf(at(status, 'podName')) || undefined,
    finalizers,
    hasFinalizer: finalizers.includes(FINALIZER),
    labels: pick(metadata.labels, KEPT_LABELS),
    annotations: pick(metadata.annotations, KEPT_ANNOTATIONS),
    timeoutMs: timeoutOf(spec),
  };
}

/** More hosts than any platform has: a user may have written the annotation, as long as an object can be. */
const MAX_FAILED_HOSTS = 500;

/** Names of the hosts that failed for this TaskRun. */
export function failedHostsOf(view: TaskRunView): string[] {
  const names = (view.annotations[ANNOTATION.failedHosts] ?? '').split(',');
  return names.filter((name) => HOST_NAME.test(name)).slice(0, MAX_FAILED_HOSTS);
}

export function assignedHostOf(view: TaskRunView): string | undefined {
  return view.labels[LABEL.assignedHost];
}

function platformOf(spec: unknown): PlatformParam {
  const param = listOf(at(spec, 'params')).find((candidate) => at(candidate, 'name') === PLATFORM_PARAM);
  if (param === undefined) return { kind: 'none' };
  const value = at(param, 'value');
  return typeof value === 'string' ? { kind: 'string', value: shortened(value) } : { kind: 'other' };
}

/** A user's parameter can be a megabyte, and a slice of a string keeps all of it in memory. */
function shortened(text: string): string {
  return text.length <= MAX_PLATFORM_LENGTH ? text : Buffer.from(text.slice(0, MAX_PLATFORM_LENGTH)).toString();
}

function mountOf({ metadata, status }: TaskRun): TaskRunView['mount'] {
  const taskSpec = at(status, 'taskSpec');
  if (taskSpec === undefined) return 'unresolved';
  const wanted = secretName(metadata.name);
  const mounts = (volume: unknown): boolean =>
    at(at(volume, 'secret'), 'secretName') === wanted ||
    listOf(at(at(volume, 'projected'), 'sources')).some((source) => at(at(source, 'secret'), 'name') === wanted);
  return listOf(at(taskSpec, 'volumes')).some(mounts) ? 'mounted' : 'not-mounted';
}

/** Tekton's own test: the condition `Succeeded` is no longer `Unknown`. A cancelled or timed out TaskRun has it `False`. */
function isDone(status: unknown): boolean {
  const succeeded = listOf(at(status, 'conditions')).find((condition) => at(condition, 'type') === 'Succeeded');
  const outcome = at(succeeded, 'status');
  return at(status, 'completionTime') !== undefined || outcome === 'True' || outcome === 'False';
}

function timeoutOf(spec: unknown): number | undefined {
  const ms = goDurationMs(textOf(at(spec, 'timeout')) ?? '');
  const retries = at(spec, 'retries');
  return ms === 0 ? undefined : ms * (1 + (typeof retries === 'number' ? Math.max(0, retries) : 0));
}

const GO_UNIT_MS: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
  us: 0.001,
  µs: 0.001,
  ns: 0.000_001,
};

/** `1h30m`, as Go's time.Duration prints it; 0 where it is not one. */
function goDurationMs(text: string): number {
  let ms = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)/g))
    ms += Number(amount) * (GO_UNIT_MS[unit ?? ''] ?? 0);
  return ms;
}

function pick(all: unknown, keys: ReadonlySet<string>): Record<string, string> {
  const kept = [...keys].map((key) => [key, textOf(at(all, key))] as const);
  return Object.fromEntries(kept.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** The field of an object; undefined where it is none, has none, or has null there. */
function at(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  const field: unknown = Reflect.get(value, key);
  return field ?? undefined;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
