import { isUnusable, waitTimeoutOf, type HostConfig } from '#shared/host-config.ts';
import { LABEL, LOCAL_HOST } from '#shared/names.ts';
import { isPlatform } from '#shared/platform.ts';

import { assignedHostOf, type TaskRunView } from './view.ts';
import * as text from './error-text.ts';

/** What this process knows about one TaskRun beyond what is written on it. */
export interface RunMemory {
  /** The host that it holds a slot on. */
  readonly host: string | undefined;
  readonly waiting: boolean;
  /** When the search for a host began: milliseconds since 1970. */
  readonly searchStartMs: number | undefined;
  /**
   * Our Secret for it. `unknown`: another process may have made it before a restart. `foreign`: one of that name was there and is not
   * ours.
   */
  readonly secret: 'absent' | 'unknown' | 'present' | 'foreign';
  /** What its Secret will say, once the API server lets it be made. */
  readonly prepared: PreparedFor | undefined;
}

export type PreparedFor = { readonly kind: 'login' | 'local' } | { readonly kind: 'error'; readonly message: string };

/** The host list: as it is, or the reason why there is none. */
export type ConfigState = { readonly config: HostConfig } | { readonly missing: string };

export type Decision =
  | { readonly action: 'none'; readonly reason: string }
  /** Take finalizer and labels off: it is not ours. */
  | { readonly action: 'unmark'; readonly reason: string }
  /** Account, Secret, labels and finalizer go. */
  | { readonly action: 'release'; readonly reason: string }
  /** Find out whether its Secret is there. */
  | { readonly action: 'look'; readonly reason: string }
  /** The Secret `error` with `message`. */
  | { readonly action: 'refuse'; readonly reason: string; readonly message: string }
  /** The Secret `host: localhost`. */
  | { readonly action: 'run-locally'; readonly reason: string }
  /** Take a slot, or a place in the queue. */
  | { readonly action: 'allocate'; readonly reason: string; readonly platform: string }
  /** Write the slot on the TaskRun. */
  | { readonly action: 'assign'; readonly reason: string; readonly host: string }
  /** Make account and Secret on the host that is written on it. */
  | { readonly action: 'provision'; readonly reason: string; readonly host: string }
  /** Remove the account and give the slot back, though the TaskRun goes on. */
  | { readonly action: 'withdraw'; readonly reason: string; readonly host: string };

export interface Facts {
  readonly view: TaskRunView;
  readonly memory: RunMemory;
  readonly configState: ConfigState;
  readonly nowMs: number;
}

type Rule = (facts: Facts) => Decision | null;

const none = (reason: string): Decision => ({ action: 'none', reason });

/** In order: the first rule that has an answer decides. */
const RULES: readonly Rule[] = [
  unsure,
  ended,
  notOurs,
  unresolved,
  unmarked,
  settled,
  slotTaken,
  prepared,
  badPlatform,
  local,
  waitedTooLong,
  noHostList,
  wanted,
];

/**
 * Decides what is to be done next for a TaskRun. Pure; called again after each step until the answer is `none`. A TaskRun need not be
 * marked before it is known to be ours: the first write that it needs marks it as well.
 */
export function decide(facts: Facts): Decision {
  for (const rule of RULES) {
    const decision = rule(facts);
    if (decision !== null) return decision;
  }
  return none('nothing to do');
}

/** There is something to give back. */
export function holdsAnything({ host, waiting, secret, prepared: isPrepared }: RunMemory): boolean {
  return host !== undefined || waiting || secret === 'present' || secret === 'unknown' || isPrepared !== undefined;
}

/** Before anything else: a Secret of its name that comes later is not ours. */
function unsure({ memory }: Facts): Decision | null {
  return memory.secret === 'unknown'
    ? { action: 'look', reason: 'it may have its Secret since before a restart' }
    : null;
}

function ended({ view, memory }: Facts): Decision | null {
  if (!view.done && !view.deleting) return null;
  const how = view.deleting ? 'it is being deleted' : 'it has ended';
  if (view.hasFinalizer || holdsAnything(memory)) return { action: 'release', reason: how };
  return none(`${how}, and nothing of it is ours`);
}

/** It may have been ours before. */
function notOurs({ view, memory }: Facts): Decision | null {
  const reason =
    view.platform.kind === 'none'
      ? 'it has no parameter PLATFORM'
      : view.mount === 'not-mounted'
        ? 'no volume of it mounts our Secret'
        : null;
  if (reason === null) return null;
  if (holdsAnything(memory)) return { action: 'release', reason };
  return view.hasFinalizer ? { action: 'unmark', reason } : none(reason);
}

function unresolved({ view }: Facts): Decision | null {
  return view.mount === 'unresolved' ? none('Tekton has not resolved its Task yet') : null;
}

/** A user can take off what is written on it; after a restart nobody would know of its slot. */
function unmarked({ view, memory }: Facts): Decision | null {
  if (memory.host === undefined || memory.secret !== 'present' || isWrittenOn(view, memory.host)) return null;
  return { action: 'assign', reason: 'its marks were taken off', host: memory.host };
}

function isWrittenOn(view: TaskRunView, host: string): boolean {
  return view.hasFinalizer && assignedHostOf(view) === host && view.labels[LABEL.targetPlatform] !== undefined;
}

function settled({ memory }: Facts): Decision | null {
  if (memory.secret === 'present') return none('it has its Secret');
  if (memory.secret !== 'foreign') return null;
  const reason = 'a Secret that is not ours has its name';
  return memory.host === undefined ? none(reason) : { action: 'withdraw', reason, host: memory.host };
}

/** The Secret may be there though no answer came: it is not to become another one. */
function prepared({ memory }: Facts): Decision | null {
  const reason = 'its Secret is not made yet';
  if (memory.prepared?.kind === 'error') return { action: 'refuse', reason, message: memory.prepared.message };
  return memory.prepared?.kind === 'local' ? { action: 'run-locally', reason } : null;
}

function badPlatform({ view }: Facts): Decision | null {
  if (view.platform.kind === 'string' && isPlatform(view.platform.value)) return null;
  return { action: 'refuse', reason: 'its platform is malformed', message: text.malformedPlatform(view.platform) };
}

function local({ view, configState }: Facts): Decision | null {
  const isLocal =
    'config' in configState &&
    view.platform.kind === 'string' &&
    configState.config.localPlatforms.has(view.platform.value);
  return isLocal ? { action: 'run-locally', reason: 'its platform is a local one' } : null;
}

function slotTaken({ view, memory }: Facts): Decision | null {
  if (memory.host === undefined) return null;
  if (!isWrittenOn(view, memory.host)) return { action: 'assign', reason: 'it holds a slot', host: memory.host };
  return { action: 'provision', reason: 'its slot is written', host: memory.host };
}

function waitedTooLong({ view, memory, configState, nowMs }: Facts): Decision | null {
  if (
    !memory.waiting ||
    !('config' in configState) ||
    view.platform.kind !== 'string' ||
    memory.searchStartMs === undefined
  )
    return null;
  const timeoutMs = waitTimeoutOf(configState.config, view.platform.value);
  if (timeoutMs === undefined || nowMs < memory.searchStartMs + timeoutMs) return null;
  return {
    action: 'refuse',
    reason: 'it has waited too long',
    message: text.waitedTooLong(view.platform.value, timeoutMs),
  };
}

function noHostList({ configState }: Facts): Decision | null {
  if ('missing' in configState)
    return { action: 'refuse', reason: 'there is no host list', message: text.noHostList(configState.missing) };
  if (isUnusable(configState.config))
    return {
      action: 'refuse',
      reason: 'the host list cannot be used',
      message: text.noHostList('nothing in it can be used'),
    };
  return null;
}

function wanted({ view, memory }: Facts): Decision | null {
  if (view.platform.kind !== 'string') return null;
  const isWritten =
    memory.waiting &&
    view.labels[LABEL.targetPlatform] !== undefined &&
    view.labels[LABEL.waitingForPlatform] !== undefined &&
    view.labels[LABEL.assignedHost] === undefined;
  if (isWritten && view.hasFinalizer) return none('it waits for a host');
  return { action: 'allocate', reason: 'it needs a host', platform: view.platform.value };
}

/** True where the TaskRun, as another process left it, holds (or held) something on a host. */
export function wasAssigned(view: TaskRunView): boolean {
  const host = assignedHostOf(view);
  return view.hasFinalizer && host !== undefined && host !== LOCAL_HOST;
}
