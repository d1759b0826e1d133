import { messageOf } from '#shared/errors.ts';
import type { Logger } from '#shared/log.ts';

import { accountName } from './account-name.ts';
import { HOST_ERROR, HostError, isOfHost, type Endpoint, type HostErrorCode, type HostOperations } from './contract.ts';
import type { Debt } from './ledger.ts';
import type { Machines } from './machines.ts';
import { isSameMachine } from './records.ts';
import type { Store } from './store.ts';
import type { Turns } from './turns.ts';
import type { Whereabouts } from './whereabouts.ts';

export interface HousekeepingOptions {
  whereabouts: Whereabouts;
  machines: Machines;
  ledger: Store<Debt>;
  /** By account. */
  turns: Turns;
  removeFrom: (host: string, endpoint: Endpoint, account: string) => Promise<void>;
  /** The host that a TaskRun holds a slot on. */
  holderOf: (uid: string) => string | undefined;
  onSwept: (host: string, removed: number) => void;
  log: Logger;
}

/** What is done at a visit: the host is checked, accounts of ours that belong to nobody go, and debts are settled. */
export class Housekeeping {
  readonly #options: HousekeepingOptions;

  constructor(options: HousekeepingOptions) {
    this.#options = options;
  }

  /**
   * Visits a host where it is, and where it was before. True where nothing of ours that belongs to nobody is left.
   *
   * @param onChecked is told what is wrong with the host where it is now, if anything, as soon as that is known: one account may take
   * long to remove, and where the host was may be gone for ever. It returns whether to go on.
   */
  async visit(host: string, onChecked: (problem: string | undefined) => boolean): Promise<boolean> {
    const { whereabouts, machines, log } = this.#options;
    const endpoints = whereabouts.of(host);
    let [isReached, isClean] = [true, true];
    for (const [index, endpoint] of endpoints.entries()) {
      const problem = await errorOf(machines.use(endpoint, (operations) => operations.check()));
      if (index === 0 && !onChecked(problem && messageOf(problem))) return false;
      const sweep = async (operations: HostOperations): Promise<void> => {
        isClean = (await this.#sweep(host, endpoint, operations)) && isClean;
      };
      const failure = isCleanable(problem) ? await errorOf(machines.use(endpoint, sweep)) : problem;
      isReached &&= failure === undefined;
      isClean &&= problem === undefined;
      // What is wrong where it is now has been told.
      if (failure === undefined || (index === 0 && failure === problem)) continue;
      const place = index === 0 ? '' : ' where it was before';
      log.warn({ host, err: failure }, `host ${host} cannot be cleaned${place}: ${messageOf(failure)}`);
    }
    return isReached && (await this.#settleDebts(host, endpoints)) && isClean;
  }

  /**
   * Removes the accounts that belong to no live TaskRun. True where all are gone: one that cannot be removed keeps nobody else from
   * its turn.
   */
  async #sweep(host: string, endpoint: Endpoint, operations: HostOperations): Promise<boolean> {
    const { turns, log, onSwept } = this.#options;
    const strays = (await operations.listAccounts()).filter(({ taskRunUid }) => !this.#isLive(taskRunUid, endpoint));
    let [removed, left] = [0, 0];
    for (const { account, taskRunUid } of strays) {
      await turns.take(account, async () => {
        if (this.#isLive(taskRunUid, endpoint)) return;
        const fields = { host, account, uid: taskRunUid };
        try {
          await operations.removeAccount(account);
          removed++;
          log.info(fields, `host ${host}: removed account ${account}, which belonged to no TaskRun`);
        } catch (error) {
          if (isOfHost(error)) throw error;
          left++;
          const why = `host ${host}: account ${account}, which belongs to no TaskRun, cannot be removed: ${messageOf(error)}`;
          log.error({ ...fields, err: error }, why);
        }
      });
    }
    onSwept(host, removed);
    return left === 0;
  }

  async #settleDebts(host: string, endpoints: readonly Endpoint[]): Promise<boolean> {
    const { ledger, log } = this.#options;
    let isSettled = true;
    for (const [key, debt] of ledger.entries().toArray()) {
      if (debt.host !== host) continue;
      const { taskRunUid } = debt;
      const fields = { host, account: accountName(taskRunUid), uid: taskRunUid };
      try {
        if (!(await this.#settle(debt, endpoints))) continue;
        await ledger.remove(key);
        log.info(fields, `host ${host}: the account ${fields.account} is gone at last`);
      } catch (error) {
        isSettled = false;
        log.warn({ ...fields, err: error }, `host ${host} still has account ${fields.account}: ${messageOf(error)}`);
        if (isOfHost(error)) break;
      }
    }
    return isSettled;
  }

  /** False where the account is in use again: the TaskRun has come back to this machine, by whatever name it is listed now. */
  async #settle({ host, taskRunUid }: Debt, endpoints: readonly Endpoint[]): Promise<boolean> {
    for (const endpoint of endpoints) {
      // Nothing may come between this and the account's turn.
      if (this.#isLive(taskRunUid, endpoint)) return false;
      await this.#options.removeFrom(host, endpoint, accountName(taskRunUid));
    }
    return true;
  }

  #isLive(uid: string, endpoint: Endpoint): boolean {
    const { holderOf, whereabouts } = this.#options;
    const host = holderOf(uid);
    return host !== undefined && whereabouts.ofAccount(uid, host).some((live) => isSameMachine(live, endpoint));
  }
}

/** With these wrong, accounts can be removed all the same: that may even be what helps. */
const CLEANABLE: ReadonlySet<HostErrorCode> = new Set([HOST_ERROR.diskFull, HOST_ERROR.readOnly, HOST_ERROR.failed]);

function isCleanable(problem: Error | undefined): boolean {
  return problem === undefined || (problem instanceof HostError && CLEANABLE.has(problem.code));
}

async function errorOf(work: Promise<unknown>): Promise<Error | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(messageOf(error));
  }
}
