import type { Endpoint, HostOperations } from './contract.ts';
import { endpointId, isEqual } from './records.ts';

export interface MachinesOptions {
  connect: (options: { endpoint: Endpoint; onFirstKey: (key: string) => Promise<void> }) => HostOperations;
  /** Gets the endpoint with the key that is trusted there from now on. */
  onFirstKey: (endpoint: Endpoint) => Promise<void>;
  /** Throws where this process may not act (any more). */
  fence: () => void;
}

interface Machine {
  endpoint: Endpoint;
  readonly operations: HostOperations;
  users: number;
  isRetired: boolean;
}

/** What is done on machines, over one connection to each. */
export class Machines {
  readonly #options: MachinesOptions;
  readonly #machines = new Map<string, Machine>();
  /** Those that another login has replaced and that are still busy, too. */
  readonly #connected = new Set<Machine>();

  constructor(options: MachinesOptions) {
    this.#options = options;
  }

  /** Does `work` at the endpoint. Where its login or keys have changed, what is under way there ends first over the old connection. */
  async use<T>(endpoint: Endpoint, work: (operations: HostOperations) => Promise<T>): Promise<T> {
    const machine = this.#machine(endpoint);
    machine.users++;
    try {
      return await work(machine.operations);
    } finally {
      machine.users--;
      this.#closeIfDone(machine);
    }
  }

  /** As it is known now: under trust on first use the key may have come since the caller looked. */
  current(endpoint: Endpoint): Endpoint {
    const known = this.#machines.get(endpointId(endpoint))?.endpoint;
    return known !== undefined && isTheSame(known, endpoint) ? known : endpoint;
  }

  /** Ends the connections to all but these. */
  keepOnly(endpoints: Iterable<Pick<Endpoint, 'address' | 'port' | 'user'>>): void {
    const kept = new Set([...endpoints].map(endpointId));
    for (const [id, machine] of this.#machines) if (!kept.has(id)) this.#retire(id, machine);
  }

  /** Ends all connections at once. */
  close(): void {
    for (const { operations } of this.#connected) operations.close();
  }

  #machine(endpoint: Endpoint): Machine {
    this.#options.fence();
    const id = endpointId(endpoint);
    const known = this.#machines.get(id);
    if (known !== undefined && isTheSame(known.endpoint, endpoint)) return known;
    if (known !== undefined) this.#retire(id, known);
    const machine: Machine = {
      endpoint,
      operations: this.#options.connect({
        endpoint,
        onFirstKey: async (key) => {
          machine.endpoint = { ...endpoint, hostKeys: [key] };
          await this.#options.onFirstKey(machine.endpoint);
        },
      }),
      users: 0,
      isRetired: false,
    };
    this.#machines.set(id, machine);
    this.#connected.add(machine);
    return machine;
  }

  #retire(id: string, machine: Machine): void {
    this.#machines.delete(id);
    machine.isRetired = true;
    this.#closeIfDone(machine);
  }

  #closeIfDone(machine: Machine): void {
    if (!machine.isRetired || machine.users > 0) return;
    machine.operations.close();
    this.#connected.delete(machine);
  }
}

/** Without keys it is the same as with the one that was trusted meanwhile. */
function isTheSame(known: Endpoint, endpoint: Endpoint): boolean {
  return isEqual(known, endpoint) || (endpoint.hostKeys.length === 0 && isEqual({ ...known, hostKeys: [] }, endpoint));
}
