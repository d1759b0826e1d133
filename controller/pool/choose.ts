export interface Candidate {
  readonly name: string;
  readonly capacity: number;
  used: number;
  available: boolean;
  /** The turn at which a slot of it was last taken; 0 where none ever was. */
  lastUsed: number;
}

/** Most free slots first; then the lowest share in use; then the one used longest ago. Null where none is free. */
export function chooseHost<T extends Candidate>(hosts: Iterable<T>, exclude: ReadonlySet<string>): T | null {
  let best: T | null = null;
  for (const host of hosts) {
    if (!host.available || host.used >= host.capacity || exclude.has(host.name)) continue;
    if (best === null || isBetter(host, best)) best = host;
  }
  return best;
}

function isBetter(a: Candidate, b: Candidate): boolean {
  const freeA = a.capacity - a.used;
  const freeB = b.capacity - b.used;
  if (freeA !== freeB) return freeA > freeB;
  // used/capacity compared without a division.
  const shareA = a.used * b.capacity;
  const shareB = b.used * a.capacity;
  if (shareA !== shareB) return shareA < shareB;
  return a.lastUsed < b.lastUsed;
}
