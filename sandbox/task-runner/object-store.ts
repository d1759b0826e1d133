import type { Clock } from '#shared/clock.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { cachedMeta, Reflector } from '#shared/kubernetes/reflector.ts';
import type { Logger } from '#shared/log.ts';

interface Kept<T> {
  namespace: string;
  name: string;
  uid: string;
  resourceVersion: string;
  object: T;
}

export interface ObjectStoreOptions<T> {
  readonly client: KubeClient;
  readonly path: string;
  readonly onSet: (object: T, previous: T | undefined) => void;
  readonly onDelete: (last: T) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Whole objects of one kind, kept up to date by one watch; keys are `namespace/name`. */
export class ObjectStore<T extends KubeObject> {
  readonly #reflector: Reflector<Kept<T>>;

  constructor({ onSet, onDelete, ...options }: ObjectStoreOptions<T>) {
    this.#reflector = new Reflector({
      ...options,
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- T is what the path serves
      trim: (object): Kept<T> => ({ ...cachedMeta(object), object: object as T }),
      onSet: ({ object }, previous) => onSet(object, previous?.object),
      onDelete: ({ object }) => onDelete(object),
    });
  }

  get(key: string): T | undefined {
    const slash = key.indexOf('/');
    return this.#reflector.get(key.slice(0, slash), key.slice(slash + 1))?.object;
  }

  *values(): Generator<T> {
    for (const { object } of this.#reflector.values()) yield object;
  }

  count(matches: (object: T) => boolean): number {
    let count = 0;
    for (const object of this.values()) if (matches(object)) count++;
    return count;
  }

  /** Takes in what the API server answered to a write of ours. */
  observe(object: T): void {
    this.#reflector.observe(object);
  }

  start(): Promise<void> {
    return this.#reflector.start();
  }

  stop(): Promise<void> {
    return this.#reflector.stop();
  }
}
