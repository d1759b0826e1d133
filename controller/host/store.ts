import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound, isConflict } from '#shared/kubernetes/errors.ts';
import type { ConfigMap } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import type { Logger } from '#shared/log.ts';

type StoreClient = Pick<KubeClient, 'get' | 'create' | 'patch'>;

/**
 * A ConfigMap in our namespace with one JSON value per key; what is in it is also in memory. Each change is one merge patch of one
 * key, and changes follow each other: two on their way at once could arrive the other way round. A change that is written is in
 * memory only afterwards.
 */
export class Store<T> {
  readonly #client: StoreClient;
  readonly #namespace: string;
  readonly #name: string;
  readonly #values = new Map<string, T>();
  #last: Promise<unknown> = Promise.resolve();

  private constructor(client: StoreClient, namespace: string, name: string) {
    this.#client = client;
    this.#namespace = namespace;
    this.#name = name;
  }

  /** Reads the ConfigMap, which is made where it is not there. A value that `parse` refuses is logged and left alone. */
  static async open<T>(options: {
    client: StoreClient;
    namespace: string;
    name: string;
    parse: (value: unknown) => T;
    log: Logger;
  }): Promise<Store<T>> {
    const { client, namespace, name, parse, log } = options;
    const store = new Store<T>(client, namespace, name);
    const path = PATH.configMaps(namespace, name);
    const found = (await ignoreNotFound(client.get<ConfigMap>(path))) ?? (await create(client, namespace, name));
    for (const [key, text] of Object.entries(found.data ?? {})) {
      try {
        store.#values.set(key, parse(JSON.parse(text)));
      } catch (error) {
        log.error(
          { err: error, configMap: name, key },
          `ConfigMap ${name}: key ${key} cannot be read; it is left as it is`,
        );
      }
    }
    return store;
  }

  get(key: string): T | undefined {
    return this.#values.get(key);
  }

  entries(): MapIterator<[string, T]> {
    return this.#values.entries();
  }

  get size(): number {
    return this.#values.size;
  }

  async put(key: string, value: T): Promise<void> {
    await this.update(key, () => value);
  }

  /** Writes what `change` makes of the value that is there by then; undefined: it stays as it is. */
  async update(key: string, change: (current: T | undefined) => T | undefined): Promise<void> {
    await this.#inTurn(async () => {
      const value = change(this.#values.get(key));
      if (value === undefined) return;
      await this.#patch(key, JSON.stringify(value));
      this.#values.set(key, value);
    });
  }

  async remove(key: string): Promise<void> {
    await this.#inTurn(async () => {
      if (!this.#values.has(key)) return;
      await this.#patch(key, null);
      this.#values.delete(key);
    });
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    const current = this.#last.then(work, work);
    this.#last = current;
    await current;
  }

  async #patch(key: string, text: string | null): Promise<void> {
    const path = PATH.configMaps(this.#namespace, this.#name);
    const patch = { data: { [key]: text } };
    const patched = await ignoreNotFound(this.#client.patch<ConfigMap>(path, patch));
    if (patched !== null) return;
    // Somebody deleted it: what was in it is still in memory, and is needed.
    await create(this.#client, this.#namespace, this.#name);
    const all = Object.fromEntries([...this.#values].map(([other, value]) => [other, JSON.stringify(value)]));
    await this.#client.patch<ConfigMap>(path, { data: { ...all, ...patch.data } });
  }
}

async function create(client: StoreClient, namespace: string, name: string): Promise<ConfigMap> {
  try {
    return await client.create<ConfigMap>(PATH.configMaps(namespace), {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name },
    });
  } catch (error) {
    if (!isConflict(error)) throw error;
    return await client.get<ConfigMap>(PATH.configMaps(namespace, name));
  }
}
