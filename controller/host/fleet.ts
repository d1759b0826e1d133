import { backoffMs } from '#shared/backoff.ts';
import type { Clock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import type { HostSpec } from '#shared/host-config.ts';
import type { Logger } from '#shared/log.ts';

import { HOST_ERROR, HostError, type AccountRequest, type Endpoint, type HostOperations } from './contract.ts';
import type { Debt } from './ledger.ts';
import { endpointId, endpointOf, isEqual, isSameMachine, withEndpoint, type HostRecord } from './records.ts';
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

interface Machine {
  endpoint: Endpoint;
  readonly operations: HostOperations;
}

/** A host name that we look after: listed, or with something left on it. */
interface Tended {
  spec: HostSpec | undefined;
  available: boolean;
  /** Failures since an account could last be made. */
  failures: number;
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
  readonly #machines = new Map<string, Machine>();
  readonly #tended = new Map<string, Tended>();
  /** Where the account of a TaskRun was made by this process. */
  readonly #placed = new Map<string, Endpoint>();
  /** The last operation on each account: operations on one account follow each other. */
  readonly #busy = new Map<string, Promise<unknown>>();
  readonly #stop = new AbortController();
  #specs: ReadonlyMap<string, HostSpec> = new Map();
  #started = false;

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  /** Takes over a new list of hosts. */
  configure(specs: ReadonlyMap<string, HostSpec>): void {
    this.#specs = specs;
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
    for (const machine of this.#machines.values()) machine.operations.close();
    await Promise.all([...this.#tended.values()].map((tended) => tended.done));
  }

  /** Visits hosts that are out now: their admin's key has changed. */
  recheck(secret: string): void {
    for (const tended of this.#tended.values())
      if (tended.spec?.secret === secret && !tended.available) tended.wake.abort();
  }

  /** True where an account on `host` could still be reached: it is listed, or recorded. */
  knows(host: string): boolean {
    return this.#specs.has(host) || this.#options.records.get(host) !== undefined;
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
        this.#placed.set(request.taskRunUid, endpoint);
        const { home } = await this.#machine(endpoint).operations.createAccount(request);
        const tended = this.#tended.get(host);
        if (tended !== undefined) tended.failures = 0;
        const { address, port, hostKeys } = this.#machine(endpoint).endpoint;
        return { address, port, hostKeys, home };
      } catch (error) {
        this.#noteFailure(host, endpoint, error);
        throw error;
      }
    });
  }

  /** Removes the account from wherever it may be under this host's name. Succeeds where it is gone. */
  async removeAccount(host: string, account: string, taskRunUid: string): Promise<void> {
    const placed = this.#placed.get(taskRunUid);
    for (const endpoint of placed === undefined ? this.#endpointsOf(host) : [placed]) {
      await this.#serially(account, async () => {
        try {
          await this.#machine(endpoint).operations.removeAccount(account);
        } catch (error) {
          this.#noteFailure(host, endpoint, error);
          throw error;
        }
      });
    }
    this.#placed.delete(taskRunUid);
  }

  /** Writes down that the account is still to be removed, which is done when the host is visited next. */
  async owe(account: string, debt: Debt): Promise<void> {
    await this.#options.ledger.put(account, debt);
    this.#placed.delete(debt.taskRunUid);
  }

  /** The current endpoint first. */
  #endpointsOf(host: string): Endpoint[] {
    const record = this.#options.records.get(host);
    const spec = this.#specs.get(host);
    const recorded = record?.endpoints ?? [];
    if (spec === undefined) return [...recorded];
    const current = endpointOf(spec, record);
    return [current, ...recorded.filter((endpoint) => endpointId(endpoint) !== endpointId(current))];
  }

  #machine(endpoint: Endpoint): Machine {
    this.#options.fence();
    const id = endpointId(endpoint);
    const known = this.#machines.get(id);
    if (known !== undefined && isEqual(known.endpoint, endpoint)) return known;
    // Under trust on first use the key may have come since the caller looked.
    if (known !== undefined && endpoint.hostKeys.length === 0 && isEqual({ ...known.endpoint, hostKeys: [] }, endpoint))
      return known;
    known?.operations.close();
    const machine: Machine = {
      endpoint,
      operations: this.#options.connect({
        endpoint,
        onFirstKey: async (key) => {
          machine.endpoint = { ...endpoint, hostKeys: [key] };
          for (const [name, spec] of this.#specs) {
            if (endpointId(spec) === id) await this.#remember(name, machine.endpoint);
          }
        },
      }),
    };
    this.#machines.set(id, machine);
    return machine;
  }

  async #remember(host: string, endpoint: Endpoint): Promise<void> {
    const { records } = this.#options;
    const changed = withEndpoint(records.get(host), endpoint);
    if (changed !== undefined) await records.put(host, changed);
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
    if (!isCurrent || !isHosts || !tended.available) return;
    this.#setStatus(host, tended, messageOf(error));
    tended.wake.abort(FAILED);
  }

  #setStatus(host: string, tended: Tended, problem: string | undefined): void {
    const available = problem === undefined;
    if (!available) tended.failures++;
    if (tended.available === available) return;
    tended.available = available;
    if (available) this.#options.log.info({ host }, `host ${host} can be used`);
    else this.#options.log.warn({ host, reason: problem }, `host ${host} is out: ${problem}`);
    this.#options.onStatus(host, { available, reason: problem });
  }

  #tendAll(): void {
    const names = new Set([...this.#specs.keys(), ...[...this.#options.records.entries()].map(([name]) => name)]);
    for (const name of names) {
      if (this.#tended.has(name)) continue;
      const { promise, resolve } = Promise.withResolvers<void>();
      const tended: Tended = {
        spec: this.#specs.get(name),
        available: true,
        failures: 0,
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
      const problem = await this.#visit(name);
      if (this.#stop.signal.aborted) return;
      // What was found while the list changed, or while an account could not be made, does not hold any more.
      if (!tended.wake.signal.aborted) {
        this.#setStatus(name, tended, problem);
        if (problem === undefined && (await this.#forgetPast(name, tended))) return;
        const pauseMs =
          problem === undefined ? SWEEP_INTERVAL_MS * (0.9 + Math.random() / 5) : backoffMs(tended.failures, COOL_DOWN);
        await clock.sleep(pauseMs, tended.wake.signal);
      }
      if (tended.wake.signal.reason === FAILED) {
        tended.wake = new AbortController();
        await clock.sleep(backoffMs(tended.failures, COOL_DOWN), tended.wake.signal);
      }
    }
  }

  /** Checks the host, removes what belongs to nobody, settles debts. Gives what is wrong with where it is now, if anything. */
  async #visit(name: string): Promise<string | undefined> {
    const { log, ledger, onSwept } = this.#options;
    const endpoints = this.#endpointsOf(name);
    let problem: string | undefined;
    let isSettled = true;
    for (const endpoint of endpoints) {
      try {
        const { operations } = this.#machine(endpoint);
        await operations.check();
        const strays = (await operations.listAccounts()).filter(
          ({ taskRunUid }) => !this.#isLive(taskRunUid, endpoint),
        );
        for (const { account, taskRunUid } of strays) {
          await this.#serially(account, async () => {
            if (this.#isLive(taskRunUid, endpoint)) return;
            await operations.removeAccount(account);
            log.info(
              { host: name, account, uid: taskRunUid },
              `host ${name}: removed account ${account}, which belonged to no TaskRun`,
            );
          });
        }
        onSwept?.(name, strays.length);
      } catch (error) {
        isSettled = false;
        if (endpoint === endpoints[0]) problem = messageOf(error);
        else
          log.warn(
            { host: name, err: error },
            `host ${name} cannot be reached where it was before: ${messageOf(error)}`,
          );
      }
    }
    if (isSettled) {
      for (const [account, debt] of ledger.entries().toArray()) {
        if (debt.host !== name) continue;
        try {
          await this.removeAccount(name, account, debt.taskRunUid);
          await ledger.remove(account);
          log.info(
            { host: name, account, uid: debt.taskRunUid },
            `host ${name}: the account ${account} is gone at last`,
          );
        } catch (error) {
          problem ??= messageOf(error);
        }
      }
    }
    return problem;
  }

  #isLive(uid: string, endpoint: Endpoint): boolean {
    const host = this.#options.holderOf(uid);
    if (host === undefined) return false;
    const placed = this.#placed.get(uid);
    return (placed === undefined ? this.#endpointsOf(host) : [placed]).some((candidate) =>
      isSameMachine(candidate, endpoint),
    );
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
        this.#tended.delete(name);
        log.info({ host: name }, `host ${name} is forgotten: it is not listed, and nothing is left on it`);
        return true;
      }
      const current = record?.endpoints.find(
        (endpoint) => tended.spec !== undefined && endpointId(endpoint) === endpointId(tended.spec),
      );
      if (record !== undefined && current !== undefined && record.endpoints.length > 1)
        await records.put(name, { endpoints: [current] });
    } catch (error) {
      log.warn({ host: name, err: error }, `host ${name}: its record could not be written: ${messageOf(error)}`);
    }
    return false;
  }
}
