import { backoffMs } from '#shared/backoff.ts';
import type { Clock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import type { HostSpec } from '#shared/host-config.ts';
import type { Logger } from '#shared/log.ts';

import {
  HOST_ERROR,
  HostError,
  isOfHost,
  isOfOneAccount,
  type AccountRequest,
  type Endpoint,
  type HostOperations,
} from './contract.ts';
import { Housekeeping } from './housekeeping.ts';
import { debtKey, type Debt } from './ledger.ts';
import { Machines } from './machines.ts';
import { endpointId, isEqual, type HostRecord } from './records.ts';
import type { Store } from './store.ts';
import { Turns } from './turns.ts';
import { Whereabouts } from './whereabouts.ts';

/** How long a host that failed is left alone: long enough to recover, short enough that nobody looks for it by hand. */
const COOL_DOWN = { baseMs: 2000, maxMs: 300_000 };

const SWEEP_INTERVAL_MS = 600_000;

const NOT_VISITED = 'it has not been visited yet';
const IS_WRONG = 'its entry in the list of hosts is wrong';

/** Why a host is woken: an account could not be made or removed, so it gets its time to cool down before it is visited. */
const FAILED = 'failed';

/** What a TaskRun needs to log in. */
export interface Login {
  readonly address: string;
  readonly port: number;
  readonly hostKeys: readonly string[];
  readonly home: string;
}

export interface HostStatus {
  readonly available: boolean;
  /** Why it is not. */
  readonly reason: string | undefined;
}

export interface FleetOptions {
  records: Store<HostRecord>;
  ledger: Store<Debt>;
  connect: (options: { endpoint: Endpoint; onFirstKey: (key: string) => Promise<void> }) => HostOperations;
  /** Throws where this process may not act (any more). */
  fence: () => void;
  /** The host that a TaskRun holds a slot on. */
  holderOf: (uid: string) => string | undefined;
  /** Whether any TaskRun holds a slot on the host. */
  isHeld: (host: string) => boolean;
  onStatus: (host: string, status: HostStatus) => void;
  onSwept: (host: string, removed: number) => void;
  clock: Clock;
  log: Logger;
}

/** A host name that we look after: listed, or with something left on it. */
interface Tended {
  spec: HostSpec | undefined;
  /** Undefined until its first visit. */
  available: boolean | undefined;
  /** What was said last of why it is not. */
  problem: string | undefined;
  /** Failures since an account could last be made. */
  failures: number;
  /** Visits in a row that could not do all that there was to do. */
  unsettled: number;
  wake: AbortController;
  readonly done: Promise<void>;
}

/**
 * All hosts: where they are, whether they can be used, and what is left on them. Accounts are made and removed through it. Hosts are
 * visited at start, after a failure, and every ten minutes. Where nothing is wrong a host is offered (again); accounts with our mark
 * that belong to no live TaskRun go, and debts are settled. Hosts do not wait for each other.
 */
export class Fleet {
  readonly #options: FleetOptions;
  readonly #whereabouts: Whereabouts;
  readonly #machines: Machines;
  readonly #tended = new Map<string, Tended>();
  readonly #housekeeping: Housekeeping;
  /** By account. */
  readonly #turns = new Turns();
  readonly #visits = new Set<Promise<unknown>>();
  readonly #stop = new AbortController();
  #leftOut: ReadonlySet<string> = new Set();
  #started = false;

  constructor(options: FleetOptions) {
    this.#options = options;
    const { records, connect, fence } = options;
    this.#whereabouts = new Whereabouts(records);
    const onFirstKey = (endpoint: Endpoint): Promise<void> => this.#whereabouts.rememberKey(endpoint);
    this.#machines = new Machines({ connect, fence, onFirstKey });
    this.#housekeeping = new Housekeeping({
      ...options,
      whereabouts: this.#whereabouts,
      machines: this.#machines,
      turns: this.#turns,
      removeFrom: (host, endpoint, account) => this.#removeFrom(host, endpoint, account),
    });
  }

  /** Takes over a new list of hosts. What is known of those that are `leftOut`, their first key above all, is not forgotten. */
  configure(specs: ReadonlyMap<string, HostSpec>, leftOut: Iterable<string> = []): void {
    this.#leftOut = new Set(leftOut);
    const listed = this.#whereabouts.specs;
    const added = specs.keys().filter((name) => !listed.has(name) && !this.#tended.has(name));
    for (const name of added) this.#options.onStatus(name, { available: false, reason: NOT_VISITED });
    this.#whereabouts.configure(specs);
    for (const [name, tended] of this.#tended) {
      const spec = specs.get(name);
      const changed = JSON.stringify(spec) !== JSON.stringify(tended.spec);
      if (spec !== undefined && !isEqual(spec, tended.spec)) {
        // Nobody knows whether it can be used as it is listed now.
        tended.available = tended.problem = undefined;
        this.#options.onStatus(name, { available: false, reason: NOT_VISITED });
      }
      tended.spec = spec;
      if (changed) tended.wake.abort();
    }
    if (this.#started) this.#tendAll();
  }

  /** Begins to visit hosts. The slots that are held must be known by now: what belongs to nobody is removed. */
  start(): void {
    this.#started = true;
    this.#tendAll();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    for (const tended of this.#tended.values()) tended.wake.abort();
    this.#machines.close();
    await Promise.all([...this.#tended.values()].map((tended) => tended.done));
    await Promise.all(this.#visits);
  }

  /** Visits hosts that are out now: their admin's key has changed. */
  recheck(secret: string): void {
    for (const tended of this.#tended.values())
      if (tended.spec?.secret === secret && tended.available !== true) tended.wake.abort();
  }

  /** Why nothing can be done on `host` now; undefined where it can. */
  problemOf(host: string): string | undefined {
    if (this.#leftOut.has(host)) return IS_WRONG;
    if (this.#whereabouts.specs.get(host)?.concurrency === 0) return 'it is drained';
    const tended = this.#tended.get(host);
    return tended?.available === undefined ? NOT_VISITED : tended.problem;
  }

  /** True where an account on `host` could still be reached. */
  knows(host: string): boolean {
    return this.#whereabouts.knows(host);
  }

  /** Names that are not listed any more, of the machine that is listed as `host` now. */
  formerNamesOf(host: string): string[] {
    return this.#whereabouts.formerNamesOf(host);
  }

  /**
   * Makes the account. Where it fails the host is taken out until it has been visited.
   *
   * @throws HostError; where `mayHaveActed`, an account may be there
   */
  createAccount(host: string, request: AccountRequest): Promise<Login> {
    return this.#turns.take(request.account, async () => {
      const [endpoint] = this.#whereabouts.specs.has(host) ? this.#whereabouts.of(host) : [];
      if (endpoint === undefined) {
        const why = this.#leftOut.has(host) ? IS_WRONG : 'it is not listed any more';
        throw new HostError(HOST_ERROR.unreachable, why);
      }
      try {
        await this.#whereabouts.place(request.taskRunUid, host, endpoint);
        const { home } = await this.#machines.use(endpoint, (operations) => operations.createAccount(request));
        const tended = this.#tended.get(host);
        if (tended !== undefined) tended.failures = 0;
        const { address, port, hostKeys } = this.#machines.current(endpoint);
        return { address, port, hostKeys, home };
      } catch (error) {
        if (error instanceof HostError && !error.mayHaveActed) this.#whereabouts.unplace(request.taskRunUid);
        if (!isOfOneAccount(error)) this.#noteFailure(host, endpoint, error);
        throw error;
      }
    });
  }

  /** Removes the account from wherever it may be under this host's name. Succeeds where it is gone. */
  async removeAccount(host: string, account: string, taskRunUid: string): Promise<void> {
    for (const endpoint of this.#whereabouts.ofAccount(taskRunUid, host))
      await this.#removeFrom(host, endpoint, account);
    this.#whereabouts.unplace(taskRunUid);
  }

  /** Writes down that the account is still to be removed, which is done when the host is visited next. */
  async owe(debt: Debt): Promise<void> {
    await this.#options.ledger.put(debtKey(debt), debt);
    this.#whereabouts.unplace(debt.taskRunUid);
  }

  async #removeFrom(host: string, endpoint: Endpoint, account: string): Promise<void> {
    await this.#turns.take(account, async () => {
      try {
        await this.#machines.use(endpoint, (operations) => operations.removeAccount(account));
      } catch (error) {
        if (isOfHost(error)) this.#noteFailure(host, endpoint, error);
        throw error;
      }
    });
  }

  #noteFailure(host: string, endpoint: Endpoint, error: unknown): void {
    const tended = this.#tended.get(host);
    const isCurrent = tended?.spec !== undefined && endpointId(tended.spec) === endpointId(endpoint);
    if (!(error instanceof HostError) || !isCurrent || tended.available !== true || this.#stop.signal.aborted) return;
    this.#setStatus(host, tended, messageOf(error));
    tended.wake.abort(FAILED);
  }

  #setStatus(host: string, tended: Tended, problem: string | undefined): void {
    const available = problem === undefined;
    if (!available) tended.failures++;
    if (problem !== undefined && problem !== tended.problem)
      this.#options.log.warn({ host, reason: problem }, `host ${host} is out: ${problem}`);
    tended.problem = problem;
    if (tended.available === available) return;
    tended.available = available;
    if (available) this.#options.log.info({ host }, `host ${host} can be used`);
    this.#options.onStatus(host, { available, reason: problem });
  }

  #tendAll(): void {
    for (const name of this.#whereabouts.names) {
      if (this.#tended.has(name)) continue;
      const { promise, resolve } = Promise.withResolvers<void>();
      const tended: Tended = {
        spec: this.#whereabouts.specs.get(name),
        available: undefined,
        problem: undefined,
        failures: 0,
        unsettled: 0,
        wake: new AbortController(),
        done: promise,
      };
      this.#tended.set(name, tended);
      void this.#tend(name, tended).finally(resolve);
    }
  }

  /** Visits a host again and again, until it is neither listed nor needed. */
  async #tend(name: string, tended: Tended): Promise<void> {
    const { clock } = this.#options;
    while (!this.#stop.signal.aborted) {
      tended.wake = new AbortController();
      const wasHeld = this.#options.isHeld(name);
      // What is found while the list changes, or while an account cannot be made, does not hold any more, and may come late.
      const isSettled = await Promise.race([this.#visitInFull(name, tended), whenAborted(tended.wake.signal)]);
      if (this.#stop.signal.aborted) return;
      if (isSettled !== undefined && !tended.wake.signal.aborted) {
        tended.unsettled = isSettled ? 0 : tended.unsettled + 1;
        // An account that was in use when its place was swept may be there still.
        if (isSettled && !wasHeld && (await this.#forgetPast(name, tended))) return;
        const pauseMs = isSettled
          ? SWEEP_INTERVAL_MS * (0.9 + Math.random() / 5)
          : backoffMs(Math.max(tended.failures, tended.unsettled), COOL_DOWN);
        await clock.sleep(pauseMs, tended.wake.signal);
      }
      if (this.#stop.signal.aborted) return;
      if (tended.wake.signal.reason === FAILED) {
        tended.wake = new AbortController();
        await clock.sleep(backoffMs(tended.failures, COOL_DOWN), tended.wake.signal);
      }
    }
  }

  async #visitInFull(name: string, tended: Tended): Promise<boolean> {
    const { signal } = tended.wake;
    const visit = this.#housekeeping.visit(name, (problem) => {
      if (signal.aborted) return false;
      this.#setStatus(name, tended, problem);
      return true;
    });
    this.#visits.add(visit);
    try {
      return await visit;
    } finally {
      this.#visits.delete(visit);
    }
  }

  /** Drops what the record says of the past, once nothing refers to it. True where the host is not needed at all any more. */
  async #forgetPast(name: string, tended: Tended): Promise<boolean> {
    const { ledger, isHeld, log } = this.#options;
    const isOwed = ledger.entries().some(([, debt]) => debt.host === name);
    if (isHeld(name) || isOwed || this.#leftOut.has(name)) return false;
    try {
      if (tended.spec === undefined) {
        await this.#whereabouts.forget(name);
        // Listed again meanwhile.
        if (tended.spec !== undefined) return false;
        this.#tended.delete(name);
        log.info({ host: name }, `host ${name} is forgotten: it is not listed, and nothing is left on it`);
      } else {
        await this.#whereabouts.forgetPast(name);
      }
      this.#machines.keepOnly(this.#whereabouts.places());
    } catch (error) {
      log.warn({ host: name, err: error }, `host ${name}: its record could not be written: ${messageOf(error)}`);
    }
    return !this.#tended.has(name);
  }
}

function whenAborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(undefined), { once: true }));
}
