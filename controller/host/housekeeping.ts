import { messageOf } from '#shared/errors.ts';
import type { Logger } from '#shared/log.ts';

import { accountName } from './account-name.ts';
import { HOST_ERROR, HostError, type Endpoint, type HostOperations } from './contract.ts';
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
   * @param onChecked is told what is wrong with the host where it is now, if anything, as soon as that is known: where it was may be
   * gone for ever. It returns whether to go on.
   */
  async visit(host: string, onChecked: (problem: string | undefined) => boolean): Promise<boolean> {
    const { log } = this.#options;
    const endpoints = this.#options.whereabouts.of(host);
    const [current, ...past] = endpoints;
    const problem = current === undefined ? undefined : await this.#clean(host, current);
    if (!onChecked(problem)) return false;
    let isClean = problem === undefined;
    for (const endpoint of past) {
      const why = await this.#clean(host, endpoint);
      if (why === undefined) continue;
      isClean = false;
      log.warn({ host, reason: why }, `host ${host} cannot be cleaned where it was before: ${why}`);
    }
    return isClean && (await this.#settleDebts(host, endpoints));
  }

  /** Checks the machine and removes the accounts that belong to nobody; gives what is wrong, if anything. */
  async #clean(host: string, endpoint: Endpoint): Promise<string | undefined> {
    const { machines, onSwept } = this.#options;
    try {
      const removed = await machines.use(endpoint, (operations) => this.#sweep(host, endpoint, operations));
      onSwept(host, removed);
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }

  /**
   * Removes the accounts that belong to no live TaskRun; gives their number. One that cannot be removed does not keep the host from
   * being used: it is tried again at the next visit.
   */
  async #sweep(host: string, endpoint: Endpoint, operations: HostOperations): Promise<number> {
    const { turns, log } = this.#options;
    await operations.check();
    const strays = (await operations.listAccounts()).filter(({ taskRunUid }) => !this.#isLive(taskRunUid, endpoint));
    let removed = 0;
    for (const { account, taskRunUid } of strays) {
      await turns.take(account, async () => {
        if (this.#isLive(taskRunUid, endpoint)) return;
        const fields = { host, account, uid: taskRunUid };
        try {
          await operations.removeAccount(account);
        } catch (error) {
          if (!(error instanceof HostError) || error.code !== HOST_ERROR.failed) throw error;
          const why = `host ${host}: account ${account}, which belongs to no TaskRun, cannot be removed: ${error.message}`;
          log.error({ ...fields, err: error }, why);
          return;
        }
        removed++;
        log.info(fields, `host ${host}: removed account ${account}, which belonged to no TaskRun`);
      });
    }
    return removed;
  }

  async #settleDebts(host: string, endpoints: readonly Endpoint[]): Promise<boolean> {
    const { ledger, log, holderOf, removeFrom } = this.#options;
    let isSettled = true;
    for (const [key, debt] of ledger.entries().toArray()) {
      const { taskRunUid } = debt;
      // Before a restart the TaskRun was about to leave the host; now it is there, and its account is in use again.
      if (debt.host !== host || holderOf(taskRunUid) === host) continue;
      const account = accountName(taskRunUid);
      try {
        for (const endpoint of endpoints) await removeFrom(host, endpoint, account);
        await ledger.remove(key);
        log.info({ host, account, uid: taskRunUid }, `host ${host}: the account ${account} is gone at last`);
      } catch (error) {
        isSettled = false;
        log.warn({ host, account, err: error }, `host ${host} still has account ${account}: ${messageOf(error)}`);
      }
    }
    return isSettled;
  }

  #isLive(uid: string, endpoint: Endpoint): boolean {
    const { holderOf, whereabouts } = this.#options;
    const host = holderOf(uid);
    return host !== undefined && whereabouts.ofAccount(uid, host).some((live) => isSameMachine(live, endpoint));
  }
}
