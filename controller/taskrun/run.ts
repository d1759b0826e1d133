import type { HostConfig } from '#shared/host-config.ts';
import type { Secret } from '#shared/kubernetes/objects.ts';
import { ANNOTATION } from '#shared/names.ts';
import { platformLabel } from '#shared/platform.ts';

import type { ConfigState, PreparedFor, RunMemory } from './decide.ts';
import type { TaskRunView } from './view.ts';

/** One TaskRun, as long as there is anything to do for it: what is written on it, and what only this process knows. */
export interface Run {
  view: TaskRunView;
  /** It is not in the cluster any more. */
  gone: boolean;
  /** The watch lost sight of it: it is gone, or somebody took our label off. */
  lost: boolean;
  searchStartMs: number | undefined;
  slotAtMs: number | undefined;
  assignedAtMs: number | undefined;
  secret: RunMemory['secret'];
  secretUid: string | undefined;
  /** A Secret that was sent, or is about to be, with the key that the account was made with. */
  prepared: Prepared | undefined;
  /** There may be an account on the host that it holds a slot on. */
  mayHaveAccount: boolean;
  releaseStartMs: number | undefined;
  /** Hosts that failed for it, and why. */
  readonly failures: Map<string, string>;
}

export interface Prepared {
  readonly secret: Secret;
  readonly content: PreparedFor;
  /** It was sent, and no answer came. */
  mayBeThere: boolean;
  /** It was said that the API server does not let it be made. */
  isKnownForbidden: boolean;
}

export function newRun(view: TaskRunView): Run {
  return {
    view,
    gone: false,
    lost: false,
    searchStartMs: undefined,
    slotAtMs: undefined,
    assignedAtMs: undefined,
    secret: 'absent',
    secretUid: undefined,
    prepared: undefined,
    mayHaveAccount: false,
    releaseStartMs: undefined,
    failures: new Map(),
  };
}

/** What is certain never to need anything from us is not even remembered. */
export function isOfInterest(view: TaskRunView): boolean {
  if (view.hasFinalizer) return true;
  return view.platform.kind !== 'none' && view.mount !== 'not-mounted' && !view.done && !view.deleting;
}

/** First come, first served: when the search began, else when it was created; milliseconds since 1970. */
export function orderOf({ view }: Run): number {
  return writtenTimeMs(view, ANNOTATION.allocationStartTime) ?? createdMs(view);
}

export function platformOf({ platform }: TaskRunView): string {
  return platform.kind === 'string' ? platform.value : '';
}

/**
 * The platform as metrics name it. What nobody has hosts for is `other`: a user's text must not make a time series each.
 */
export function platformForMetrics(view: TaskRunView, state: ConfigState): string {
  const platform = platformOf(view);
  return 'config' in state && platformsOf(state.config).has(platform) ? platformLabel(platform) : 'other';
}

export function platformsOf(config: HostConfig): ReadonlySet<string> {
  const broken = config.leftOut.values().filter((platform) => platform !== undefined);
  return new Set([...config.hosts.values().map((host) => host.platform), ...broken, ...config.localPlatforms]);
}

/** A time in Unix seconds that is written on it: milliseconds since 1970, and never before it was created, whoever wrote it. */
export function writtenTimeMs(view: TaskRunView, annotation: string): number | undefined {
  const text = view.annotations[annotation];
  return text !== undefined && /^\d{1,11}$/.test(text) ? Math.max(Number(text) * 1000, createdMs(view)) : undefined;
}

function createdMs({ createdAt }: TaskRunView): number {
  return Date.parse(createdAt) || 0;
}

/** What tells one TaskRun from another in the log. */
export function fieldsOf(run: Run): Record<string, string> {
  const { namespace, name, uid } = run.view;
  return { namespace, name, uid, platform: platformOf(run.view).slice(0, 100) };
}
