import { accountName } from '../host/account-name.ts';
import { HOST_ERROR, HostError } from '../host/contract.ts';
import type { Fleet, Login } from '../host/fleet.ts';
import type { Debt } from '../host/ledger.ts';

export type FleetAccess = Pick<Fleet, 'createAccount' | 'removeAccount' | 'owe' | 'knows' | 'problemOf'>;

export interface FleetRequest {
  readonly verb: 'createAccount' | 'removeAccount' | 'owe';
  readonly host: string;
}

/** A stand-in for the hosts and what is written down of them: accounts and debts outlive the process that made them. */
export class StandInFleet {
  /** By host: the TaskRuns' UIDs. */
  readonly accounts = new Map<string, Set<string>>();
  debts: Debt[] = [];
  /** Hosts that get new accounts. */
  listed: ReadonlySet<string> = new Set();

  /** What one process has of it. `intercept` is awaited when something is asked, and may give what goes wrong. */
  connect(
    intercept: (request: FleetRequest) => Promise<{ isDone: boolean; error: Error } | null> = async () => null,
  ): FleetAccess {
    const act = async <T>(request: FleetRequest, serve: () => T): Promise<T> => {
      const fault = await intercept(request);
      if (fault !== null && !fault.isDone) throw fault.error;
      const result = serve();
      if (fault !== null) throw fault.error;
      return result;
    };
    return {
      createAccount: async (host, { taskRunUid, account }) =>
        await act({ verb: 'createAccount', host }, (): Login => {
          if (!this.listed.has(host))
            throw new HostError(HOST_ERROR.unreachable, `host ${host} gets no new accounts: it is not listed any more`);
          this.of(host).add(taskRunUid);
          return { address: host, port: 22, hostKeys: ['ssh-ed25519 AAAA'], home: `/home/${account}` };
        }),
      removeAccount: async (host, account, uid) =>
        await act({ verb: 'removeAccount', host }, () => {
          if (account !== accountName(uid)) throw new Error(`${account} is not the account of ${uid}`);
          this.of(host).delete(uid);
        }),
      owe: async (debt) => await act({ verb: 'owe', host: debt.host }, () => void this.debts.push(debt)),
      knows: (host) => host !== 'nowhere',
      problemOf: () => undefined,
    };
  }

  of(host: string): Set<string> {
    const accounts = this.accounts.get(host) ?? new Set();
    this.accounts.set(host, accounts);
    return accounts;
  }

  /** What visits of all hosts do: accounts that nobody holds a slot for go, and debts are settled. */
  sweep(holderOf: (uid: string) => string | undefined): void {
    for (const [host, accounts] of this.accounts)
      for (const uid of accounts) if (holderOf(uid) !== host) accounts.delete(uid);
    this.debts = this.debts.filter(({ host, taskRunUid }) => holderOf(taskRunUid) === host);
  }
}
