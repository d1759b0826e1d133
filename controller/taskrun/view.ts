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

/** The parts of a Tekton v1 TaskRun that we look at; anything may be missing or of another shape than the API says. */
export interface TaskRun extends KubeObject {
  spec?: {
    params?: { name?: string; value?: unknown }[];
    timeout?: string;
    retries?: number;
  };
  status?: {
    podName?: string;
    completionTime?: string;
    conditions?: { type?: string; status?: string }[];
    taskSpec?: { volumes?: Volume[] | null };
  };
}

interface Volume {
  secret?: { secretName?: string };
  projected?: { sources?: { secret?: { name?: string } }[] };
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

/** Cuts a TaskRun down to its view. */
export function viewOf(object: KubeObject): TaskRunView {
  // The API server's schema for TaskRuns says so, and every access below allows for its absence.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  const taskRun = object as TaskRun;
  const { metadata, spec, status } = taskRun;
  const finalizers = metadata.finalizers ?? [];
  const endedAtMs = Date.parse(metadata.deletionTimestamp ?? status?.completionTime ?? '');
  return {
    ...cachedMeta(object),
    createdAt: metadata.creationTimestamp ?? '',
    platform: platformOf(taskRun),
    mount: mountOf(taskRun),
    done: isDone(taskRun),
    deleting: metadata.deletionTimestamp !== undefined,
    endedAtMs: Number.isNaN(endedAtMs) ? undefined : endedAtMs,
    podName: status?.podName || undefined,
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

function platformOf({ spec }: TaskRun): PlatformParam {
  const param = spec?.params?.find((candidate) => candidate.name === PLATFORM_PARAM);
  if (param === undefined) return { kind: 'none' };
  return typeof param.value === 'string' ? { kind: 'string', value: shortened(param.value) } : { kind: 'other' };
}

/** A user's parameter can be a megabyte, and a slice of a string keeps all of it in memory. */
function shortened(text: string): string {
  return text.length <= MAX_PLATFORM_LENGTH ? text : Buffer.from(text.slice(0, MAX_PLATFORM_LENGTH)).toString();
}

function mountOf({ metadata, status }: TaskRun): TaskRunView['mount'] {
  if (status?.taskSpec === undefined) return 'unresolved';
  const wanted = secretName(metadata.name);
  const mounts = (volume: Volume): boolean =>
    volume.secret?.secretName === wanted ||
    (volume.projected?.sources ?? []).some((source) => source.secret?.name === wanted);
  return (status.taskSpec.volumes ?? []).some(mounts) ? 'mounted' : 'not-mounted';
}

/** Tekton's own test: the condition `Succeeded` is no longer `Unknown`. A cancelled or timed out TaskRun has it `False`. */
function isDone({ status }: TaskRun): boolean {
  const succeeded = status?.conditions?.find((condition) => condition.type === 'Succeeded');
  return status?.completionTime !== undefined || succeeded?.status === 'True' || succeeded?.status === 'False';
}

function timeoutOf(spec: TaskRun['spec']): number | undefined {
  const ms = spec?.timeout === undefined ? 0 : goDurationMs(spec.timeout);
  return ms === 0 ? undefined : ms * (1 + Math.max(0, spec?.retries ?? 0));
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

function pick(all: Readonly<Record<string, string>> | undefined, keys: ReadonlySet<string>): Record<string, string> {
  return Object.fromEntries(Object.entries(all ?? {}).filter(([key]) => keys.has(key)));
}
