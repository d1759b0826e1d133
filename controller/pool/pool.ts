import { chooseHost, type Candidate } from './choose.ts';

/** A host that is offered. */
export interface PoolHost {
  readonly name: string;
  readonly platform: string;
  /** How many TaskRuns it may hold at once; 0 drains it. */
  readonly capacity: number;
  /** Names, no longer listed, under which slots of the same machine may still be held: they count as taken. */
  readonly formerNames?: readonly string[];
}

/** A slot that was taken: the TaskRun `uid` holds it on `host` until {@link Pool.release}. */
export interface Grant {
  readonly uid: string;
  readonly host: string;
}

export interface SlotRequest {
  readonly uid: string;
  readonly platform: string;
  /** Hosts that failed for this TaskRun. */
  readonly exclude: ReadonlySet<string>;
}

export type RequestResult =
  | { readonly kind: 'granted'; readonly host: string }
  | { readonly kind: 'waiting'; readonly position: number }
  /** No host of the platform is listed. */
  | { readonly kind: 'no-such-platform' }
  /** Each host of the platform is excluded. */
  | { readonly kind: 'exhausted' };

/** What a change sets free or cuts off; the caller acts on it, later. */
export interface Changes {
  readonly grants: readonly Grant[];
  /** Waiting TaskRuns for which no host is left: they are in no queue any more. */
  readonly stranded: readonly string[];
}

export interface HostUse {
  readonly name: string;
  readonly platform: string;
  readonly capacity: number;
  readonly used: number;
  readonly available: boolean;
}

interface HostState extends Candidate {
  readonly platform: string;
  readonly formerNames: readonly string[];
}

/**
 * Hosts, their slots, and who waits for them. Pure and synchronous: a slot is checked and taken with nothing in between, so no host
 * ever holds more than its capacity, and a freed slot is the next one's before the call that freed it returns.
 */
export class Pool {
  /** Hosts on offer by platform, then name. */
  readonly #offered = new Map<string, Map<string, HostState>>();
  readonly #platformOf = new Map<string, string>();
  /** Who holds a slot where; hosts that are no longer offered included. */
  readonly #holders = new Map<string, Set<string>>();
  readonly #hostOf = new Map<string, string>();
  /** First come, first served: a Map keeps the order in which its keys came. */
  readonly #queues = new Map<string, Map<string, SlotRequest>>();
  readonly #platformOfWaiting = new Map<string, string>();
  readonly #unavailable = new Set<string>();
  /** From each name to the hosts on offer that count what is held under it: by that name, and those that had it before. */
  readonly #countedBy = new Map<string, HostState[]>();
  #turn = 0;

  /** Replaces the list of hosts. Slots that are held stay held, also on hosts that are gone from the list. */
  configure(hosts: Iterable<PoolHost>): Changes {
    const lastUsed = new Map<string, number>();
    for (const states of this.#offered.values())
      for (const state of states.values()) lastUsed.set(state.name, state.lastUsed);
    this.#offered.clear();
    this.#platformOf.clear();
    this.#countedBy.clear();
    for (const { name, platform, capacity, formerNames = [] } of hosts) {
      const states = getOrMake(this.#offered, platform, () => new Map<string, HostState>());
      const state: HostState = {
        name,
        platform,
        capacity,
        used: this.#usedBy([name, ...formerNames]),
        available: !this.#unavailable.has(name),
        lastUsed: lastUsed.get(name) ?? 0,
        formerNames,
      };
      states.set(name, state);
      for (const counted of [name, ...formerNames]) getOrMake(this.#countedBy, counted, () => []).push(state);
      this.#platformOf.set(name, platform);
    }
    const stranded: string[] = [];
    const grants: Grant[] = [];
    for (const [platform, queue] of this.#queues) {
      for (const request of queue.values()) if (!this.#hasHostFor(request)) stranded.push(request.uid);
      grants.push(...this.#serveQueue(platform));
    }
    for (const uid of stranded) this.leave(uid);
    return { grants, stranded };
  }

  /** A slot at once, a place in the queue, or the reason why there can be neither. Asking again keeps slot and place. */
  request(request: SlotRequest): RequestResult {
    const held = this.#hostOf.get(request.uid);
    if (held !== undefined) return { kind: 'granted', host: held };
    const states = this.#offered.get(request.platform);
    if (states === undefined) {
      this.leave(request.uid);
      return { kind: 'no-such-platform' };
    }
    if (!this.#hasHostFor(request)) {
      this.leave(request.uid);
      return { kind: 'exhausted' };
    }
    // Whoever waits could not use any free slot (else it would have one), so taking one now passes nobody by.
    const host = chooseHost(states.values(), request.exclude);
    if (host !== null) {
      this.leave(request.uid);
      this.#take(host, request.uid);
      return { kind: 'granted', host: host.name };
    }
    const queue = getOrMake(this.#queues, request.platform, () => new Map<string, SlotRequest>());
    queue.set(request.uid, request);
    this.#platformOfWaiting.set(request.uid, request.platform);
    return { kind: 'waiting', position: queue.size };
  }

  /** Takes note of a slot that was taken before a restart, whatever the host's capacity is now. */
  restore(uid: string, host: string): void {
    if (this.#hostOf.has(uid)) return;
    this.#hold(uid, host);
  }

  /** Gives the slot of `uid` back, and its place in the queue. */
  release(uid: string): Changes {
    this.leave(uid);
    const name = this.#hostOf.get(uid);
    if (name === undefined) return NO_CHANGES;
    this.#hostOf.delete(uid);
    const holders = this.#holders.get(name);
    holders?.delete(uid);
    if (holders?.size === 0) this.#holders.delete(name);
    this.#recount(name);
    return { grants: (this.#countedBy.get(name) ?? []).flatMap((state) => this.#serve(state)), stranded: [] };
  }

  /** Gives up the place in the queue, if there is one. */
  leave(uid: string): void {
    const platform = this.#platformOfWaiting.get(uid);
    if (platform === undefined) return;
    this.#platformOfWaiting.delete(uid);
    const queue = this.#queues.get(platform);
    queue?.delete(uid);
    if (queue?.size === 0) this.#queues.delete(platform);
  }

  /** A host that is not available gets nothing new. */
  setAvailable(name: string, available: boolean): Changes {
    if (available) this.#unavailable.delete(name);
    else this.#unavailable.add(name);
    const state = this.#state(name);
    if (state === undefined) return NO_CHANGES;
    state.available = available;
    return { grants: this.#serve(state), stranded: [] };
  }

  /** True where more slots are held than there are: after a restart, by what TaskRuns say of themselves. */
  isOverfull(host: string): boolean {
    return this.#countedBy.get(host)?.some((state) => state.used > state.capacity) ?? false;
  }

  hostOf(uid: string): string | undefined {
    return this.#hostOf.get(uid);
  }

  isWaiting(uid: string): boolean {
    return this.#platformOfWaiting.has(uid);
  }

  holdersOf(host: string): ReadonlySet<string> {
    return this.#holders.get(host) ?? EMPTY;
  }

  /** The platform of a host on offer. */
  platformOf(host: string): string | undefined {
    return this.#platformOf.get(host);
  }

  /** Who waits for a host of `platform`, longest first. */
  waitingFor(platform: string): readonly string[] {
    return [...(this.#queues.get(platform)?.keys() ?? [])];
  }

  waiting(platform: string): number {
    return this.#queues.get(platform)?.size ?? 0;
  }

  /** Each host on offer. */
  *hosts(): Generator<HostUse> {
    for (const states of this.#offered.values()) yield* states.values();
  }

  /** Platforms that have hosts on offer or TaskRuns waiting. */
  platforms(): Set<string> {
    return new Set([...this.#offered.keys(), ...this.#queues.keys()]);
  }

  #state(name: string): HostState | undefined {
    return this.#offered.get(this.#platformOf.get(name) ?? '')?.get(name);
  }

  #recount(name: string): void {
    for (const state of this.#countedBy.get(name) ?? []) state.used = this.#usedBy([state.name, ...state.formerNames]);
  }

  #usedBy(names: readonly string[]): number {
    return names.reduce((sum, name) => sum + this.holdersOf(name).size, 0);
  }

  #hasHostFor({ platform, exclude }: SlotRequest): boolean {
    for (const name of this.#offered.get(platform)?.keys() ?? []) if (!exclude.has(name)) return true;
    return false;
  }

  /** Hands the free slots of all hosts of `platform` to those who wait longest. */
  #serveQueue(platform: string): Grant[] {
    const grants: Grant[] = [];
    const states = this.#offered.get(platform)?.values().toArray() ?? [];
    for (const request of this.#queues.get(platform)?.values() ?? []) {
      const host = chooseHost(states, request.exclude);
      if (host !== null) {
        this.leave(request.uid);
        this.#take(host, request.uid);
        grants.push({ uid: request.uid, host: host.name });
      } else if (request.exclude.size === 0) {
        break;
      }
    }
    return grants;
  }

  /** Hands the free slots of `host` to those who wait longest and can use it. */
  #serve(host: HostState): Grant[] {
    const grants: Grant[] = [];
    for (const request of this.#queues.get(host.platform)?.values() ?? []) {
      if (!host.available || host.used >= host.capacity) break;
      if (request.exclude.has(host.name)) continue;
      this.leave(request.uid);
      this.#take(host, request.uid);
      grants.push({ uid: request.uid, host: host.name });
    }
    return grants;
  }

  #take(host: HostState, uid: string): void {
    host.lastUsed = ++this.#turn;
    this.#hold(uid, host.name);
  }

  #hold(uid: string, name: string): void {
    const holders = getOrMake(this.#holders, name, () => new Set<string>());
    holders.add(uid);
    this.#hostOf.set(uid, name);
    this.#recount(name);
  }
}

const NO_CHANGES: Changes = { grants: [], stranded: [] };
const EMPTY: ReadonlySet<string> = new Set();

function getOrMake<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}
