import type { Clock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { isNotFound } from '#shared/kubernetes/errors.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { redact, type Logger } from '#shared/log.ts';

/** Every reason that we give; docs/operations.md says what each means. */
export const EVENT = {
  waiting: { type: 'Normal', reason: 'WaitingForHost' },
  assigned: { type: 'Normal', reason: 'HostAssigned' },
  ready: { type: 'Normal', reason: 'HostReady' },
  local: { type: 'Normal', reason: 'RunsLocally' },
  hostFailed: { type: 'Warning', reason: 'HostFailed' },
  refused: { type: 'Warning', reason: 'NoHost' },
  foreignSecret: { type: 'Warning', reason: 'SecretNotOurs' },
  secretRefused: { type: 'Warning', reason: 'SecretRefused' },
  cleaned: { type: 'Normal', reason: 'HostCleaned' },
  cleanupFailed: { type: 'Warning', reason: 'CleanupFailed' },
  letGo: { type: 'Warning', reason: 'CleanupOwed' },
  badConfig: { type: 'Warning', reason: 'BadHostConfig' },
} as const;

export type EventKind = keyof typeof EVENT;

export interface EventTarget {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

interface CoreEvent extends KubeObject {
  count?: number;
}

interface Pending {
  kind: EventKind;
  target: EventTarget;
  message: string;
}

/** The same thing said again within this time is folded into the event that is there. */
const FOLD_MS = 600_000;
const MAX_REMEMBERED = 4096;
/** Events give way to the writes that builds wait for: few at a time, and the oldest are dropped when too many pile up. */
const MAX_PARALLEL = 2;
const MAX_PENDING = 2000;
/** The API server refuses longer ones (validation of core/v1 Event). */
const MAX_MESSAGE = 1024;

/** Says to people, on the object they look at, what happened. It never delays nor fails what it reports on. */
export class EventRecorder {
  readonly #client: Pick<KubeClient, 'create' | 'patch'>;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #instance: string;
  readonly #pending: Pending[] = [];
  readonly #said = new Map<string, { path: string; count: number; atMs: number }>();
  #running = 0;
  #idle = Promise.withResolvers<void>();
  #serial = 0;

  constructor(options: { client: Pick<KubeClient, 'create' | 'patch'>; clock: Clock; log: Logger; instance: string }) {
    this.#client = options.client;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#instance = options.instance;
  }

  record(kind: EventKind, target: EventTarget, message: string): void {
    if (this.#pending.length >= MAX_PENDING) this.#pending.shift();
    const clean = redact(message);
    this.#pending.push({
      kind,
      target,
      message: clean.length > MAX_MESSAGE ? `${clean.slice(0, MAX_MESSAGE - 1)}…` : clean,
    });
    if (this.#running < MAX_PARALLEL) void this.#drain();
  }

  /** Resolves once all that was recorded is sent, or lost. */
  async sent(): Promise<void> {
    if (this.#running > 0) await this.#idle.promise;
  }

  async #drain(): Promise<void> {
    this.#running++;
    for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift()) {
      try {
        await this.#send(next);
      } catch (error) {
        // The namespace may be going, and the process may no longer lead: neither is worth a warning.
        this.#log.debug({ err: error }, `an event was lost: ${messageOf(error)}`);
      }
    }
    this.#running--;
    if (this.#running > 0) return;
    this.#idle.resolve();
    this.#idle = Promise.withResolvers();
  }

  async #send({ kind, target, message }: Pending): Promise<void> {
    const nowMs = this.#clock.now();
    const now = new Date(nowMs).toISOString().replace(/\.\d+Z$/, 'Z');
    const { type, reason } = EVENT[kind];
    const key = JSON.stringify([target.uid, reason, message]);
    const earlier = this.#said.get(key);
    if (earlier !== undefined && nowMs - earlier.atMs < FOLD_MS) {
      earlier.count++;
      earlier.atMs = nowMs;
      try {
        await this.#client.patch<CoreEvent>(earlier.path, { count: earlier.count, lastTimestamp: now });
        return;
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
    // A part of a name must end with a letter or digit too.
    const prefix = target.name.slice(0, 200).replace(/[^a-z0-9]+$/, '');
    const name = `${prefix}.${nowMs.toString(16)}${(this.#serial++ % 4096).toString(16).padStart(3, '0')}`;
    await this.#client.create<KubeObject & Record<string, unknown>>(PATH.events(target.namespace), {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name, namespace: target.namespace },
      involvedObject: { ...target },
      reason,
      message,
      type,
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
      source: { component: 'multi-platform-controller' },
      reportingComponent: 'multi-platform-controller',
      reportingInstance: this.#instance,
    });
    this.#said.delete(key);
    this.#said.set(key, { path: PATH.events(target.namespace, name), count: 1, atMs: nowMs });
    if (this.#said.size > MAX_REMEMBERED) {
      const [oldest] = this.#said.keys();
      if (oldest !== undefined) this.#said.delete(oldest);
    }
  }
}
