import { machineId, type HostSpec } from '#shared/host-config.ts';

import type { Endpoint } from './contract.ts';
import { endpointId, endpointOf, isSameMachine, withEndpoint, type HostRecord } from './records.ts';
import type { Store } from './store.ts';

/**
 * Where hosts are, and were: by the list, by the records that outlive it, and by where this process made accounts.
 */
export class Whereabouts {
  readonly #records: Store<HostRecord>;
  /** Where this process made the account of a TaskRun, or tried to. */
  readonly #placed = new Map<string, { readonly host: string; readonly endpoint: Endpoint }>();
  #specs: ReadonlyMap<string, HostSpec> = new Map();
  #specByMachine: ReadonlyMap<string, HostSpec> = new Map();

  constructor(records: Store<HostRecord>) {
    this.#records = records;
  }

  get specs(): ReadonlyMap<string, HostSpec> {
    return this.#specs;
  }

  /** Every name that is listed or recorded. */
  get names(): ReadonlySet<string> {
    return new Set([...this.#specs.keys(), ...this.#records.entries().map(([name]) => name)]);
  }

  /** Every place where a host is or was. */
  *places(): Generator<Pick<Endpoint, 'address' | 'port' | 'user'>> {
    yield* this.#specs.values();
    for (const [, { endpoints }] of this.#records.entries()) yield* endpoints;
  }

  configure(specs: ReadonlyMap<string, HostSpec>): void {
    this.#specs = specs;
    this.#specByMachine = new Map(specs.values().map((spec) => [machineId(spec), spec]));
  }

  /** True where the host could still be reached: it is listed, or recorded. */
  knows(host: string): boolean {
    return this.#specs.has(host) || this.#records.get(host) !== undefined;
  }

  /** Names that are not listed any more, of the machine that is listed as `host` now. */
  formerNamesOf(host: string): string[] {
    const spec = this.#specs.get(host);
    if (spec === undefined) return [];
    return [...this.#records.entries()]
      .filter(([name, { endpoints }]) => !this.#specs.has(name) && endpoints.some((past) => isSameMachine(past, spec)))
      .map(([name]) => name);
  }

  /** The current endpoint first; each with the login that is listed for that machine now, if there is one. */
  of(host: string): Endpoint[] {
    const past = (this.#records.get(host)?.endpoints ?? []).map((endpoint) => {
      const listed = this.#specByMachine.get(machineId(endpoint));
      return listed === undefined ? endpoint : this.#current(listed);
    });
    const spec = this.#specs.get(host);
    if (spec === undefined) return past;
    const current = this.#current(spec);
    return [current, ...past.filter((endpoint) => !isSameMachine(endpoint, current))];
  }

  /** Where the account of a TaskRun on `host` may be: where it was made, with the login of today. */
  ofAccount(taskRunUid: string, host: string): Endpoint[] {
    const endpoints = this.of(host);
    const placed = this.#placed.get(taskRunUid);
    if (placed?.host !== host) return endpoints;
    return [endpoints.find((endpoint) => isSameMachine(endpoint, placed.endpoint)) ?? placed.endpoint];
  }

  /** An account is about to be made there: written down before it is, so that it can be found again after a restart. */
  async place(taskRunUid: string, host: string, endpoint: Endpoint): Promise<void> {
    await this.#remember(host, endpoint);
    this.#placed.set(taskRunUid, { host, endpoint });
  }

  unplace(taskRunUid: string): void {
    this.#placed.delete(taskRunUid);
  }

  /** Writes down the key that a machine was trusted with. */
  async rememberKey(endpoint: Endpoint): Promise<void> {
    for (const [name, spec] of this.#specs) {
      if (endpointId(spec) === endpointId(endpoint)) await this.#remember(name, endpoint);
    }
  }

  /** Drops the record of a host that is not needed any more. */
  async forget(host: string): Promise<void> {
    await this.#records.remove(host);
  }

  /** Drops where the host was before it was where it is now. */
  async forgetPast(host: string): Promise<void> {
    await this.#records.update(host, (record) => {
      const spec = this.#specs.get(host);
      if (record === undefined || spec === undefined || record.endpoints.length === 1) return undefined;
      const current = record.endpoints.find((endpoint) => endpointId(endpoint) === endpointId(spec));
      return current && { endpoints: [current] };
    });
  }

  #current(spec: HostSpec): Endpoint {
    const own = this.#records.get(spec.name);
    const all = this.#records.entries().map(([, record]) => record);
    return endpointOf(spec, own === undefined ? all : [own, ...all]);
  }

  async #remember(host: string, endpoint: Endpoint): Promise<void> {
    // Decided in turn with all other changes: one that removes the record may be on its way.
    await this.#records.update(host, (record) => withEndpoint(record, endpoint));
  }
}
