import type { MonotonicClock } from '#shared/clock.ts';
import { AppError, messageOf } from '#shared/errors.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound, isConflict } from '#shared/kubernetes/errors.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import type { Logger } from '#shared/log.ts';

export const LEASE_NAME = 'multi-platform-controller';

/** client-go's defaults (k8s.io/client-go/tools/leaderelection, as kube-controller-manager uses them). */
export const LEASE_TIMING = { leaseDurationMs: 15_000, renewDeadlineMs: 10_000, retryPeriodMs: 2000 };

/** A standby looks this often, so that it takes over from a leader that let go within 2 s. */
const STANDBY_PERIOD_MS = 1000;

/** https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/lease-v1/ */
interface Lease extends KubeObject {
  spec?: {
    holderIdentity?: string | null;
    leaseDurationSeconds?: number;
    acquireTime?: string | null;
    renewTime?: string | null;
    leaseTransitions?: number;
  };
}

export interface LeaderOptions {
  /** Fenced by {@link Leader.checkLease}, not by {@link Leader.check}: who does not lead yet must be able to write the lease. */
  client: Pick<KubeClient, 'get' | 'create' | 'replace'>;
  namespace: string;
  name: string;
  identity: string;
  clock: MonotonicClock;
  log: Logger;
}

/** Either clock alone can be wrong: the wall clock can be set, and the monotonic one does not count while a machine is suspended. */
interface Moment {
  wallMs: number;
  monotonicMs: number;
}

/**
 * Leader election on a Lease, as client-go does it: whoever holds the lease renews it every 2 s; others take it once it was not
 * renewed for its duration, measured on their own monotonic clock from when they saw it change. {@link Leader.check} is the fence: it
 * throws as soon as our own last renewal is older than the deadline by either clock, which is before anybody else can have taken
 * over, also when this process was frozen in between.
 */
export class Leader {
  readonly #options: LeaderOptions;
  readonly #stop = new AbortController();
  #lease: Lease | undefined;
  /** When the lease was last seen to change, by our monotonic clock. */
  #observedAtMs = 0;
  #observedKey = '';
  #renewedAt: Moment | undefined;
  /** What is written into the lease next was decided on what was read since then. */
  #triedAt: Moment;
  #renewing: Promise<void> | undefined;

  constructor(options: LeaderOptions) {
    this.#options = options;
    this.#triedAt = this.#moment();
  }

  get isLeading(): boolean {
    return this.#renewedAt !== undefined && this.#isFresh(this.#renewedAt);
  }

  /** @throws AppError `leader.lost` where this process may not act */
  check(): void {
    if (!this.isLeading) throw new AppError('leader.lost', 'this process does not lead any more, so it writes nothing');
  }

  /** @throws AppError `leader.lost` where the write of the lease that is about to be sent was decided too long ago */
  checkLease(): void {
    if (!this.#isFresh(this.#triedAt)) throw new AppError('leader.lost', 'too late to write the lease');
  }

  /** Waits until this process leads; then renews in the background. `onLost` is called once, when it cannot renew in time. */
  async acquire(onLost: () => void): Promise<boolean> {
    const { clock, log, identity } = this.#options;
    let said = '';
    while (!this.#stop.signal.aborted) {
      try {
        if (await this.#tryTake()) {
          log.info({ identity }, 'leads');
          this.#renewing = this.#keepRenewing(onLost);
          return true;
        }
        const holder = this.#lease?.spec?.holderIdentity ?? '';
        if (holder !== said) log.info({ identity, holder }, `stands by: ${holder} leads`);
        said = holder;
      } catch (error) {
        log.warn({ err: error }, `the lease could not be read or written: ${messageOf(error)}`);
      }
      await clock.sleep(STANDBY_PERIOD_MS, this.#stop.signal);
    }
    return false;
  }

  /** Lets go of the lease, so that a standby need not wait for it to run out. */
  async release(): Promise<void> {
    this.#stop.abort();
    await this.#renewing;
    if (!this.isLeading || this.#lease === undefined) return;
    this.#renewedAt = undefined;
    this.#triedAt = this.#moment();
    const now = microTime(this.#triedAt.wallMs);
    try {
      // As client-go does it: no holder, and a duration of one second.
      await this.#replace({
        ...this.#lease.spec,
        holderIdentity: '',
        leaseDurationSeconds: 1,
        renewTime: now,
        acquireTime: now,
      });
    } catch (error) {
      this.#options.log.warn({ err: error }, `the lease could not be given back: ${messageOf(error)}`);
    }
  }

  async #keepRenewing(onLost: () => void): Promise<void> {
    const { clock, log, identity } = this.#options;
    for (;;) {
      await clock.sleep(LEASE_TIMING.retryPeriodMs, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      if (!this.isLeading) break;
      try {
        const holds = await this.#tryTake();
        if (!holds && this.#lease?.spec?.holderIdentity !== identity) break;
      } catch (error) {
        log.warn({ err: error }, `the lease could not be renewed: ${messageOf(error)}`);
      }
    }
    this.#renewedAt = undefined;
    onLost();
  }

  /** Takes or renews the lease where we may. The time of a success is that before the request: the lease is no older than that. */
  async #tryTake(): Promise<boolean> {
    const { client, namespace, name, identity } = this.#options;
    const start = this.#moment();
    this.#triedAt = start;
    const now = microTime(start.wallMs);
    const leaseDurationSeconds = LEASE_TIMING.leaseDurationMs / 1000;
    const found = await ignoreNotFound(client.get<Lease>(PATH.leases(namespace, name)));
    try {
      if (found === null) {
        this.#lease = await client.create<Lease>(PATH.leases(namespace), {
          apiVersion: 'coordination.k8s.io/v1',
          kind: 'Lease',
          metadata: { name },
          spec: {
            holderIdentity: identity,
            leaseDurationSeconds,
            acquireTime: now,
            renewTime: now,
            leaseTransitions: 0,
          },
        });
      } else {
        this.#observe(found, start.monotonicMs);
        const spec = found.spec ?? {};
        const isOurs = spec.holderIdentity === identity;
        const isHeld = Boolean(spec.holderIdentity);
        const validMs = (spec.leaseDurationSeconds ?? 0) * 1000;
        if (!isOurs && isHeld && start.monotonicMs < this.#observedAtMs + validMs) return false;
        await this.#replace({
          holderIdentity: identity,
          leaseDurationSeconds,
          renewTime: now,
          acquireTime: isOurs ? (spec.acquireTime ?? now) : now,
          leaseTransitions: (spec.leaseTransitions ?? 0) + (isOurs ? 0 : 1),
        });
      }
    } catch (error) {
      // Somebody else was faster.
      if (isConflict(error)) return false;
      throw error;
    }
    this.#renewedAt = start;
    return true;
  }

  #moment(): Moment {
    const { clock } = this.#options;
    return { wallMs: clock.now(), monotonicMs: clock.monotonic() };
  }

  #isFresh(moment: Moment): boolean {
    const now = this.#moment();
    const ageMs = Math.max(now.wallMs - moment.wallMs, now.monotonicMs - moment.monotonicMs);
    return ageMs < LEASE_TIMING.renewDeadlineMs;
  }

  #observe(lease: Lease, nowMs: number): void {
    const { holderIdentity, renewTime, acquireTime, leaseTransitions } = lease.spec ?? {};
    const key = JSON.stringify([holderIdentity, renewTime, acquireTime, leaseTransitions]);
    if (key !== this.#observedKey) this.#observedAtMs = nowMs;
    this.#observedKey = key;
    this.#lease = lease;
  }

  async #replace(spec: NonNullable<Lease['spec']>): Promise<void> {
    const { client, namespace, name } = this.#options;
    const { name: leaseName, resourceVersion, uid } = this.#lease?.metadata ?? { name };
    this.#lease = await client.replace<Lease>(PATH.leases(namespace, name), {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: {
        name: leaseName,
        namespace,
        ...(resourceVersion !== undefined && { resourceVersion }),
        ...(uid !== undefined && { uid }),
      },
      spec,
    });
  }
}

/** MicroTime as Kubernetes writes it: six digits after the point. */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}
