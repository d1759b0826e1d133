import { FINALIZER, RESERVED_ANNOTATIONS, RESERVED_LABELS } from '#shared/names.ts';

import type { TaskRunView } from './view.ts';

/** All of our labels and annotations that a TaskRun shall have; of those that are not named it shall have none. */
export interface Marks {
  readonly labels: Readonly<Record<string, string | undefined>>;
  readonly annotations: Readonly<Record<string, string | undefined>>;
}

interface MetadataPatch {
  uid: string;
  resourceVersion: string;
  finalizers?: string[];
  labels?: Record<string, string | null>;
  annotations?: Record<string, string | null>;
}

/**
 * The merge patch (RFC 7396) that puts the finalizer on and makes our labels and annotations exactly `marks`, whatever a user wrote
 * there; null where nothing differs. With `uid` and `resourceVersion` it fails with 409 where the TaskRun has changed since.
 */
export function markPatch(view: TaskRunView, marks: Marks): { metadata: MetadataPatch } | null {
  const labels = difference(RESERVED_LABELS, view.labels, marks.labels);
  const annotations = difference(RESERVED_ANNOTATIONS, view.annotations, marks.annotations);
  if (view.hasFinalizer && labels === undefined && annotations === undefined) return null;
  return {
    metadata: {
      uid: view.uid,
      resourceVersion: view.resourceVersion,
      ...(!view.hasFinalizer && { finalizers: [...view.finalizers, FINALIZER] }),
      ...(labels && { labels }),
      ...(annotations && { annotations }),
    },
  };
}

/** The merge patch that takes finalizer and labels off. Annotations stay: they say what happened. */
export function unmarkPatch(view: TaskRunView): { metadata: MetadataPatch } | null {
  const labels = difference(RESERVED_LABELS, view.labels, {});
  if (!view.hasFinalizer && labels === undefined) return null;
  return {
    metadata: {
      uid: view.uid,
      resourceVersion: view.resourceVersion,
      ...(view.hasFinalizer && { finalizers: view.finalizers.filter((finalizer) => finalizer !== FINALIZER) }),
      ...(labels && { labels }),
    },
  };
}

function difference(
  keys: readonly string[],
  actual: Readonly<Record<string, string>>,
  wanted: Readonly<Record<string, string | undefined>>,
): Record<string, string | null> | undefined {
  const changes = keys.filter((key) => actual[key] !== wanted[key]).map((key) => [key, wanted[key] ?? null] as const);
  return changes.length === 0 ? undefined : Object.fromEntries(changes);
}
