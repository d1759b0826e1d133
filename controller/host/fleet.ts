import { backoffMs } from '#shared/backoff.ts';
import type { Clock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import type { HostSpec } from '#shared/host-config.ts';
import type { Logger } from '#shared/log.ts';

import { HOST_ERROR, HostError, type AccountRequest, type Endpoint, type HostOperations } from './contract.ts';
import { accountName } from './account-name.ts';
import { debtKey, type Debt } from './ledger.ts';
import { Machines } from './machines.ts';
import { endpointId, endpointOf, isSameMachine, withEndpoint, type HostRecord } from './records.ts';
import type { Store } from './store.ts';

/** How long a host that failed is left alone: long enough to recover, short enough that nobody looks for it by hand. */
const COOL_DOWN = { baseMs: 2000, maxMs: 300_000 };

const SWEEP_INTERVAL_MS = 600_000;

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
  onSwept?: (host: string, removed: number) => void;
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
 * visited at start, after a failure, and every ten minutes: accounts with our mark that belong to no live TaskRun go, debts are
 * settled, and only then the host is offered (again). Hosts do not wait for each other.
 */
export class Fleet {
  readonly #options: FleetOptions;
  readonly #machines: Machines;
  readonly #tended = new Map<string, Tended>();
  /** Where this process made the account of a TaskRun, or tried to. */
  readonly #placed = new Map<string, { readonly host: string; readonly endpoint: Endpoint }>();
  /** The last operation on each account: operations on one account follow each other. */
  readonly #busy = new Map<string, Promise<unknown>>();
  readonly #visits = new Set<Promise<unknown>>();
  readonly #stop = new AbortController();
  #specs: ReadonlyMap<string, HostSpec> = new Map();
  #specByMachine: ReadonlyMap<string, HostSpec> = new Map();
  #started = false;

  constructor(options: FleetOptions) {
    this.#options = options;
    const { connect, fence } = options;
    this.#machines = new Machines({ connect, fence, onFirstKey: (endpoint) => this.#rememberFirstKey(endpoint) });
  }

  /** Takes over a new list of hosts. */
  configure(specs: ReadonlyMap<string, HostSpec>): void {
    const added = specs.keys().filter((name) => !this.#specs.has(name) && !this.#tended.has(name));
    for (const name of added) this.#options.onStatus(name, { available: false, reason: 'it has not been visited yet' });
    this.#specs = specs;
    this.#specByMachine = new Map(specs.values().map((spec) => [machineId(spec), spec]));
    for (const [name, tended] of this.#tended) {
      const spec = specs.get(name);
      const changed = JSON.stringify(spec) !== JSON.stringify(tended.spec);
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

  /** True where an account on `host` could still be reached: it is listed, or recorded. */
  knows(host: string): boolean {
    return this.#specs.has(host) || this.#options.records.get(host) !== undefined;
  }

  /** Names that are not listed any more, of the machine that is listed as `host` now. */
  formerNamesOf(host: string): string[] {
    const spec = this.#specs.get(host);
    if (spec === undefined) return [];
    return [...this.#options.records.entries()]
      .filter(([name, { endpoints }]) => !this.#specs.has(name) && endpoints.some((past) => isSameMachine(past, spec)))
      .map(([name]) => name);
  }

  /**
   * Makes the account. Where it fails the host is taken out until it has been visited.
   *
   * @throws HostError; where `mayHaveActed`, an account may be there
   */
  createAccount(host: string, request: AccountRequest): Promise<Login> {
    return this.#serially(request.account, async () => {
      const [endpoint] = this.#endpointsOf(host);
      if (endpoint === undefined) throw new HostError(HOST_ERROR.unreachable, `host ${host} is not listed any more`);
      try {
        await this.#remember(host, endpoint);
        this.#placed.set(request.taskRunUid, { host, endpoint });
        const { home } = await this.#machines.use(endpoint, (operations) => operations.createAccount(request));
        const tended = this.#tended.get(host);
        if (tended !== undefined) tended.failures = 0;
        const { address, port, hostKeys } = this.#machines.current(endpoint);
        return { address, port, hostKeys, home };
      } catch (error) {
        if (error instanceof HostError && !error.mayHaveActed) this.#placed.delete(request.taskRunUid);
        this.#noteFailure(host, endpoint, error);
        throw error;
      }
    });
  }

  /** Removes the account from wherever it may be under this host's name. Succeeds where it is gone. */
  async removeAccount(host: string, account: string, taskRunUid: string): Promise<void> {
    for (const endpoint of this.#whereaboutsOf(taskRunUid, host)) await this.#removeFrom(host, endpoint, account);
    this.#placed.delete(taskRunUid);
  }

  /** Writes down that the account is still to be removed, which is done when the host is visited next. */
  async owe(debt: Debt): Promise<void> {
    await this.#options.ledger.put(debtKey(debt), debt);
    this.#placed.delete(debt.taskRunUid);
  }

  async #removeFrom(host: string, endpoint: Endpoint, account: string): Promise<void> {
    await this.#serially(account, async () => {
      try {
        await this.#machines.use(endpoint, (operations) => operations.removeAccount(account));
      } catch (error) {
        this.#noteFailure(host, endpoint, error);
        throw error;
      }
    });
  }

  /** Where the account of a TaskRun on `host` may be: where it was made, with the login of today. */
  #whereaboutsOf(taskRunUid: string, host: string): Endpoint[] {
    const endpoints = this.#endpointsOf(host);
    const placed = this.#placed.get(taskRunUid);
    if (placed?.host !== host) return endpoints;
    return [endpoints.find((endpoint) => isSameMachine(endpoint, placed.endpoint)) ?? placed.endpoint];
  }

  /** The current endpoint first; each with the login that is listed for that machine now, if there is one. */
  #endpointsOf(host: string): Endpoint[] {
    const { records } = this.#options;
    const past = (records.get(host)?.endpoints ?? []).map((endpoint) => {
      const listed = this.#specByMachine.get(machineId(endpoint));
      return listed === undefined ? endpoint : this.#endpointOf(listed);
    });
    const spec = this.#specs.get(host);
    if (spec === undefined) return past;
    const current = this.#endpointOf(spec);
    return [current, ...past.filter((endpoint) => !isSameMachine(endpoint, current))];
  }

  #endpointOf(spec: HostSpec): Endpoint {
    const { records } = this.#options;
    const own = records.get(spec.name);
    return endpointOf(
      spec,
      (function* () {
        if (own !== undefined) yield own;
        for (const [, record] of records.entries()) yield record;
      })(),
    );
  }

  async #rememberFirstKey(endpoint: Endpoint): Promise<void> {
    for (const [name, spec] of this.#specs) {
      if (endpointId(spec) === endpointId(endpoint)) await this.#remember(name, endpoint);
    }
  }

  async #remember(host: string, endpoint: Endpoint): Promise<void> {
    const { records } = this.#options;
    if (withEndpoint(records.get(host), endpoint) === undefined) return;
    await records.update(host, (record) => withEndpoint(record, endpoint));
  }

  async #serially<T>(account: string, operation: () => Promise<T>): Promise<T> {
    const before = this.#busy.get(account) ?? Promise.resolve();
    const current = before.then(operation, operation);
    this.#busy.set(account, current);
    try {
      return await current;
    } finally {
      if (this.#busy.get(account) === current) this.#busy.delete(account);
    }
  }

  #noteFailure(host: string, endpoint: Endpoint, error: unknown): void {
    const tended = this.#tended.get(host);
    const isCurrent = tended?.spec !== undefined && endpointId(tended.spec) === endpointId(endpoint);
    const isHosts = error instanceof HostError && error.code !== HOST_ERROR.foreignAccount;
    if (!isCurrent || !isHosts || tended.available !== true || this.#stop.signal.aborted) return;
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
    const names = new Set([...this.#specs.keys(), ...[...this.#options.records.entries()].map(([name]) => name)]);
    for (const name of names) {
      if (this.#tended.has(name)) continue;
      const { promise, resolve } = Promise.withResolvers<void>();
      const tended: Tended = {
        spec: this.#specs.get(name),
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
      // What is found while the list changes, or while an account cannot be made, does not hold any more, and may come late.
      const isSettled = await Promise.race([this.#visitInFull(name, tended), whenAborted(tended.wake.signal)]);
      if (this.#stop.signal.aborted) return;
      if (isSettled !== undefined && !tended.wake.signal.aborted) {
        tended.unsettled = isSettled ? 0 : tended.unsettled + 1;
        if (isSettled && (await this.#forgetPast(name, tended))) return;
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
    const visit = this.#visit(name, tended);
    this.#visits.add(visit);
    try {
      return await visit;
    } finally {
      this.#visits.delete(visit);
    }
  }

  /**
   * Checks the host, removes what belongs to nobody, settles debts, there and where it was before. True where nothing of ours that
   * belongs to nobody is left. The host is offered as soon as it is clean where it is now: where it was may be gone for ever.
   */
  async #visit(name: string, tended: Tended): Promise<boolean> {
    const { log, ledger } = this.#options;
    const { signal } = tended.wake;
    const endpoints = this.#endpointsOf(name);
    const [current, ...past] = endpoints;
    const problem = current === undefined ? undefined : await this.#clean(name, current);
    if (signal.aborted) return false;
    this.#setStatus(name, tended, problem);
    let isSettled = problem === undefined;
    for (const endpoint of past) {
      const why = await this.#clean(name, endpoint);
      if (why === undefined) continue;
      isSettled = false;
      log.warn({ host: name, reason: why }, `host ${name} cannot be cleaned where it was before: ${why}`);
    }
    if (!isSettled) return false;
    for (const [key, debt] of ledger.entries().toArray()) {
      const { host, taskRunUid } = debt;
      // Before a restart the TaskRun was about to leave the host; now it is there, and its account is in use again.
      if (host !== name || this.#options.holderOf(taskRunUid) === name) continue;
      const account = accountName(taskRunUid);
      try {
        for (const endpoint of endpoints) await this.#removeFrom(name, endpoint, account);
        await ledger.remove(key);
        log.info({ host: name, account, uid: taskRunUid }, `host ${name}: the account ${account} is gone at last`);
      } catch (error) {
        isSettled = false;
        log.warn({ host: name, account, err: error }, `host ${name} still has account ${account}: ${messageOf(error)}`);
      }
    }
    return isSettled;
  }

  /** Checks the machine and removes the accounts that belong to nobody; gives what is wrong, if anything. */
  async #clean(name: string, endpoint: Endpoint): Promise<string | undefined> {
    try {
      const removed = await this.#machines.use(endpoint, (operations) => this.#sweep(name, endpoint, operations));
      this.#options.onSwept?.(name, removed);
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }

  /**
   * Removes the accounts that belong to no live TaskRun; gives their number. One that cannot be removed does not keep the host from
   * being used: it is tried again at the next visit.
   */
  async #sweep(name: string, endpoint: Endpoint, operations: HostOperations): Promise<number> {
    await operations.check();
    const strays = (await operations.listAccounts()).filter(({ taskRunUid }) => !this.#isLive(taskRunUid, endpoint));
    let removed = 0;
    for (const { account, taskRunUid } of strays) {
      await this.#serially(account, async () => {
        if (this.#isLive(taskRunUid, endpoint)) return;
        const fields = { host: name, account, uid: taskRunUid };
        try {
          await operations.removeAccount(account);
        } catch (error) {
          if (!(error instanceof HostError) || error.code !== HOST_ERROR.failed) throw error;
          const why = `host ${name}: account ${account}, which belongs to no TaskRun, cannot be removed: ${error.message}`;
          this.#options.log.error({ ...fields, err: error }, why);
          return;
        }
        removed++;
        this.#options.log.info(fields, `host ${name}: removed account ${account}, which belonged to no TaskRun`);
      });
    }
    return removed;
  }

  #isLive(uid: string, endpoint: Endpoint): boolean {
    const host = this.#options.holderOf(uid);
    if (host === undefined) return false;
    return this.#whereaboutsOf(uid, host).some((candidate) => isSameMachine(candidate, endpoint));
  }

  /** Drops what the record says of the past, once nothing refers to it. True where the host is not needed at all any more. */
  async #forgetPast(name: string, tended: Tended): Promise<boolean> {
    const { records, ledger, isHeld, log } = this.#options;
    const isOwed = ledger.entries().some(([, debt]) => debt.host === name);
    const record = records.get(name);
    if (isHeld(name) || isOwed) return false;
    try {
      if (tended.spec === undefined) {
        await records.remove(name);
        // Listed again meanwhile.
        if (tended.spec !== undefined) return false;
        this.#tended.delete(name);
        this.#closeUnused();
        log.info({ host: name }, `host ${name} is forgotten: it is not listed, and nothing is left on it`);
        return true;
      }
      const current = record?.endpoints.find(
        (endpoint) => tended.spec !== undefined && endpointId(endpoint) === endpointId(tended.spec),
      );
      if (record !== undefined && current !== undefined && record.endpoints.length > 1)
        await records.put(name, { endpoints: [current] });
      this.#closeUnused();
    } catch (error) {
      log.warn({ host: name, err: error }, `host ${name}: its record could not be written: ${messageOf(error)}`);
    }
    return false;
  }

  /** Ends the connections to where no host is or was. */
  #closeUnused(): void {
    const past = this.#options.records.entries().flatMap(([, { endpoints }]) => endpoints);
    this.#machines.keepOnly([...this.#specs.values(), ...past]);
  }
}

function whenAborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(undefined), { once: true }));
}

function machineId({ address, port }: Pick<Endpoint, 'address' | 'port'>): string {
  return `${address} ${port}`;
}
