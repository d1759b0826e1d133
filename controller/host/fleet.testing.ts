import { setImmediate as turn } from 'node:timers/promises';

import { KubeError } from '#shared/kubernetes/errors.ts';
import type { ConfigMap } from '#shared/kubernetes/objects.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { HostSpec } from '#shared/host-config.ts';
import { createLog } from '#shared/log.ts';

import { accountName } from './account-name.ts';
import { HOST_ERROR, HostError, type Endpoint, type HostErrorCode, type HostOperations } from './contract.ts';
import { Fleet, type HostStatus } from './fleet.ts';
import { LEDGER_NAME, parseDebt, type Debt } from './ledger.ts';
import { endpointId, parseRecord, RECORDS_NAME, type HostRecord } from './records.ts';
import { createSteppedClock, type SteppedClock } from './stand-in-ssh-server.ts';
import { Store } from './store.ts';

export const NAMESPACE = 'ns';

/** ConfigMaps of an API server that a test may hold up or have fail. */
export class FakeConfigMaps implements Pick<KubeClient, 'get' | 'create' | 'patch'> {
  readonly maps = new Map<string, ConfigMap>();
  /** `VERB name`, and the keys that a patch changes. */
  readonly requests: string[] = [];
  /** Awaited before a patch is done. */
  beforePatch: (patch: { data: Record<string, string | null> }) => Promise<void> = async () => {};

  async get<T>(path: string): Promise<T> {
    const found = this.maps.get(path.split('/').at(-1) ?? '');
    this.requests.push(`get ${path.split('/').at(-1)}`);
    if (found === undefined) throw new KubeError(`GET ${path}`, 404, { reason: 'NotFound' });
    // What is put in is what comes out, whatever the caller says that it is.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    return structuredClone(found) as T;
  }

  async create<T>(path: string, body: NoInfer<T>): Promise<T> {
    // What is put in is what comes out, whatever the caller says that it is.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const map = structuredClone(body) as ConfigMap;
    this.requests.push(`create ${map.metadata.name}`);
    if (this.maps.has(map.metadata.name)) throw new KubeError(`POST ${path}`, 409, { reason: 'AlreadyExists' });
    this.maps.set(map.metadata.name, map);
    // What is put in is what comes out, whatever the caller says that it is.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    return structuredClone(map) as T;
  }

  async patch<T>(path: string, body: unknown): Promise<T> {
    const name = path.split('/').at(-1) ?? '';
    // What is put in is what comes out, whatever the caller says that it is.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const patch = body as { data: Record<string, string | null> };
    this.requests.push(`patch ${name}: ${Object.keys(patch.data).join(' ')}`);
    await this.beforePatch(patch);
    const found = this.maps.get(name);
    if (found === undefined) throw new KubeError(`PATCH ${path}`, 404, { reason: 'NotFound' });
    const data = { ...found.data };
    for (const [key, value] of Object.entries(patch.data)) {
      if (value === null) delete data[key];
      else data[key] = value;
    }
    const changed = { ...found, data };
    this.maps.set(name, changed);
    // What is put in is what comes out, whatever the caller says that it is.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    return structuredClone(changed) as T;
  }

  dataOf(name: string): Record<string, string> {
    return this.maps.get(name)?.data ?? {};
  }
}

/** A machine as {@link HostOperations} sees it: accounts, and what is wrong with it. */
export class FakeMachine {
  /** Account to TaskRun UID. */
  readonly accounts = new Map<string, string>();
  readonly calls: string[] = [];
  /** Awaited before anything is done. */
  gate: () => Promise<void> = async () => {};
  failure: HostError | undefined;
  /** Fails, and yet makes the account. */
  failsLate = false;
  /** The account of this TaskRun cannot be removed, and this is what is said then. */
  sticking: string | undefined;
  stuckWith: HostErrorCode = HOST_ERROR.left;
  /** What is found wrong when the host is checked. */
  ailment: HostError | undefined;
  /** Only this Secret's key is let in. */
  secret: string | undefined;

  operations(endpoint: Endpoint): HostOperations {
    let isClosed = false;
    const act = async <T>(call: string, work: () => T): Promise<T> => {
      this.calls.push(call);
      await this.gate();
      if (isClosed) throw new HostError(HOST_ERROR.interrupted, 'the connection was closed', { mayHaveActed: true });
      if (this.secret !== undefined && this.secret !== endpoint.secret)
        throw new HostError(HOST_ERROR.authentication, `refuses ${endpoint.secret}`);
      if (this.failure !== undefined) {
        if (this.failsLate) work();
        throw this.failure;
      }
      return work();
    };
    return {
      check: async () =>
        await act('check', () => {
          if (this.ailment !== undefined) throw this.ailment;
        }),
      createAccount: async ({ account, taskRunUid }) =>
        await act(`create ${taskRunUid}`, () => {
          this.accounts.set(account, taskRunUid);
          return { home: `/home/${account}` };
        }),
      removeAccount: async (account) =>
        await act(`remove ${account.slice(0, 6)}`, () => {
          if (this.sticking !== undefined && account === accountName(this.sticking))
            throw new HostError(this.stuckWith, 'a process does not end', { mayHaveActed: true });
          this.accounts.delete(account);
        }),
      listAccounts: async () =>
        await act('list', () => [...this.accounts].map(([account, taskRunUid]) => ({ account, taskRunUid }))),
      close: () => {
        isClosed = true;
      },
    };
  }

  /** UIDs of the TaskRuns that have an account there. */
  get tenants(): string[] {
    return [...this.accounts.values()].toSorted();
  }

  add(uid: string): void {
    this.accounts.set(accountName(uid), uid);
  }
}

export function spec(name: string, change: Partial<HostSpec> = {}): HostSpec {
  return {
    name,
    address: `10.0.0.${name.codePointAt(0)}`,
    port: 22,
    user: 'root',
    platform: 'linux/arm64',
    secret: 'key',
    concurrency: 4,
    hostKeys: ['ssh-ed25519 AAAA'],
    ...change,
  };
}

export interface FleetSetting {
  readonly fleet: Fleet;
  readonly clock: SteppedClock;
  readonly cluster: FakeConfigMaps;
  readonly records: Store<HostRecord>;
  readonly ledger: Store<Debt>;
  /** By address. */
  readonly machines: Map<string, FakeMachine>;
  readonly connected: Endpoint[];
  /** TaskRun UID to host. */
  readonly holders: Map<string, string>;
  readonly statuses: Map<string, HostStatus>;
  list(...specs: HostSpec[]): void;
  machine(address: string): FakeMachine;
  create(host: string, uid: string): Promise<unknown>;
}

export async function setUpFleet(cluster = new FakeConfigMaps()): Promise<FleetSetting> {
  const log = createLog({ level: 'error', destination: { write: () => {} } });
  const clock = createSteppedClock();
  const shared = { client: cluster, namespace: NAMESPACE, log };
  const records = await Store.open({ ...shared, name: RECORDS_NAME, parse: parseRecord });
  const ledger = await Store.open({ ...shared, name: LEDGER_NAME, parse: parseDebt });
  const machines = new Map<string, FakeMachine>();
  const holders = new Map<string, string>();
  const statuses = new Map<string, HostStatus>();
  const connected: Endpoint[] = [];
  const machine = (address: string): FakeMachine => {
    const known = machines.get(address) ?? new FakeMachine();
    machines.set(address, known);
    return known;
  };
  const fleet = new Fleet({
    records,
    ledger,
    connect: ({ endpoint }) => {
      connected.push(endpoint);
      return machine(endpoint.address).operations(endpoint);
    },
    fence: () => undefined,
    holderOf: (uid) => holders.get(uid),
    isHeld: (host) => [...holders.values()].includes(host),
    onSwept: () => {},
    onStatus: (host, status) => statuses.set(host, status),
    clock,
    log,
  });
  return {
    fleet,
    clock,
    cluster,
    records,
    ledger,
    machines,
    connected,
    holders,
    statuses,
    list: (...specs) => fleet.configure(new Map(specs.map((entry) => [entry.name, entry]))),
    machine,
    create: async (host, uid) => {
      holders.set(uid, host);
      return await fleet.createAccount(host, {
        account: accountName(uid),
        taskRunUid: uid,
        publicKey: 'ssh-ed25519 AAAA',
        expiresAtMs: 1,
        limits: {},
      });
    },
  };
}

export const idOf = endpointId;

/** Lets everything go on that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  for (let round = 0; round < 50; round++) await turn();
}
