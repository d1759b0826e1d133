import { Watch } from '@kubernetes/client-node';

import { backoffMs } from '../backoff.ts';
import type { Clock } from '../clock.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { KubeClient } from './client.ts';
import { isGone, KubeError } from './errors.ts';
import type { KubeObject, Status } from './objects.ts';

const PAGE_SIZE = 500;

/** The API server ends a watch by itself after this long; between the two bounds, so that watches do not all end at once. */
const WATCH_SECONDS = { min: 300, max: 600 };

const SHORT_WATCH_MS = 1000;

const RETRY = { baseMs: 200, maxMs: 30_000 };

/** What is kept of each object. */
export interface Cached {
  namespace: string;
  name: string;
  uid: string;
  resourceVersion: string;
}

/** What the API server sets on every object that it serves. */
export function cachedMeta({ metadata }: KubeObject): Cached {
  const { namespace = '', name, uid = '', resourceVersion = '' } = metadata;
  return { namespace, name, uid, resourceVersion };
}

export interface ReflectorOptions<T extends Cached> {
  client: KubeClient;
  path: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** Cuts an object down to what is kept. The whole object is dropped after it. Where it throws, that object alone is not taken in. */
  trim: (object: KubeObject) => T;
  onSet: (object: T, previous: T | undefined) => void;
  onDelete: (last: T) => void;
  clock: Clock;
  log: Logger;
}

/**
 * Keeps a trimmed copy of a collection: a list in pages, then a watch with bookmarks that goes on where it ended, and a new list
 * where the server has forgotten (410). It never gives up: it retries with backoff until {@link Reflector.stop}.
 *
 * A connection that is half open is noticed because nothing comes for 30 s (the client's inactivity limit); the watch then begins
 * again from the last bookmark, which costs one request.
 */
export class Reflector<T extends Cached> {
  readonly #options: ReflectorOptions<T>;
  readonly #stop = new AbortController();
  readonly #objects = new Map<string, T>();
  /** The version of each object that could not be cut down, so that it is said once. */
  readonly #unreadable = new Map<string, string>();
  readonly #synced = Promise.withResolvers<void>();
  #hasSynced = false;
  /** Of the last event or bookmark, so that a watch goes on from there however the last one ended; undefined: list anew. */
  #resourceVersion: string | undefined;
  #running: Promise<void> | undefined;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
  }

  /** Begins; resolves once the first list is in, or it is stopped. */
  start(): Promise<void> {
    this.#running ??= this.#run();
    return this.#synced.promise;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    // Whoever waits for a first list that never came.
    this.#synced.resolve();
    await this.#running;
  }

  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  get size(): number {
    return this.#objects.size;
  }

  get(namespace: string, name: string): T | undefined {
    return this.#objects.get(`${namespace}/${name}`);
  }

  values(): IterableIterator<T> {
    return this.#objects.values();
  }

  /**
   * Takes in what the API server answered to a write of ours, so that nobody decides on an older copy. An object that is not kept (any
   * more) is ignored: the answer may come after the watch has said that it is gone.
   */
  observe(object: KubeObject): void {
    const trimmed = this.#trim(object);
    if (trimmed === undefined) return;
    const current = this.get(trimmed.namespace, trimmed.name);
    if (current?.uid === trimmed.uid) this.#set(trimmed);
  }

  async #run(): Promise<void> {
    const { clock, log, path } = this.#options;
    const { signal } = this.#stop;
    let failures = 0;
    while (!signal.aborted) {
      try {
        this.#resourceVersion ??= await this.#relist();
        if (signal.aborted) return;
        const startMs = clock.now();
        await this.#watch(this.#resourceVersion);
        // A server that ends each watch at once would otherwise be asked without a pause.
        failures = clock.now() - startMs < SHORT_WATCH_MS ? failures + 1 : 0;
      } catch (error) {
        failures++;
        if (isGone(error)) this.#resourceVersion = undefined;
        log.warn({ path, err: error, failures }, `watching ${path} was interrupted: ${messageOf(error)}`);
      }
      if (failures > 0) await clock.sleep(backoffMs(failures, RETRY), signal);
    }
  }

  /** Lists all pages, hands out what differs from the copy, and gives the list's resourceVersion. */
  async #relist(): Promise<string> {
    const { client, path, labelSelector, fieldSelector } = this.#options;
    const listed = new Map<string, T>();
    let token: string | undefined;
    let resourceVersion: string;
    do {
      const page = await client.list(path, { limit: PAGE_SIZE, continue: token, labelSelector, fieldSelector });
      for (const item of page.items) {
        const meta = cachedMeta(item);
        const known = this.get(meta.namespace, meta.name);
        // It is still there, whatever it looks like now.
        const object = this.#trim(item) ?? (known?.uid === meta.uid ? known : undefined);
        if (object !== undefined) listed.set(keyOf(object), object);
      }
      resourceVersion = page.metadata.resourceVersion;
      token = page.metadata.continue || undefined;
    } while (token !== undefined);
    for (const [key, object] of this.#objects) {
      if (listed.get(key)?.uid !== object.uid) this.#delete(object);
    }
    for (const object of listed.values()) this.#set(object);
    this.#hasSynced = true;
    this.#synced.resolve();
    return resourceVersion;
  }

  /** Watches until the connection ends. Rejects where it broke, or where the server says that it cannot go on. */
  #watch(from: string): Promise<void> {
    const { client, path, labelSelector, fieldSelector } = this.#options;
    let failure: unknown = null;
    let isDone = false;
    const query = {
      resourceVersion: from,
      allowWatchBookmarks: true,
      timeoutSeconds: Math.round(WATCH_SECONDS.min + Math.random() * (WATCH_SECONDS.max - WATCH_SECONDS.min)),
      labelSelector,
      fieldSelector,
    };
    return new Promise((resolve, reject) => {
      let abort = (): void => {};
      const onAbort = (): void => abort();
      const done = (error: unknown): void => {
        isDone = true;
        this.#stop.signal.removeEventListener('abort', onAbort);
        const cause = failure ?? (isEnd(error) ? null : error);
        if (cause === null || this.#stop.signal.aborted) resolve();
        else reject(asKubeError(path, cause));
      };
      const onEvent = (type: string, object: KubeObject & Status): void => {
        // What comes after a failure, or from a watch that has ended, comes again with the next watch.
        if (isDone || failure !== null) return;
        try {
          if (type === 'ERROR') {
            failure = new KubeError(`WATCH ${path}`, object.code ?? 500, object);
          } else {
            this.#apply(type, object);
            this.#resourceVersion = object.metadata.resourceVersion ?? this.#resourceVersion;
          }
        } catch (error) {
          // The client would swallow it, and the copy would silently be wrong from here on.
          failure = error;
        }
        if (failure !== null) abort();
      };
      new Watch(client.config)
        .watch(path, query, onEvent, done)
        .then((controller) => {
          abort = () => controller.abort();
          if (this.#stop.signal.aborted || failure !== null) abort();
          else if (!isDone) this.#stop.signal.addEventListener('abort', onAbort, { once: true });
        })
        .catch(done);
    });
  }

  #apply(type: string, object: KubeObject): void {
    if (type === 'BOOKMARK') return;
    const trimmed = this.#trim(object);
    if (type === 'DELETED') {
      const meta = cachedMeta(object);
      const current = this.get(meta.namespace, meta.name);
      this.#unreadable.delete(keyOf(meta));
      if (current?.uid === meta.uid) this.#delete(trimmed ?? current);
    } else if (trimmed !== undefined) {
      this.#set(trimmed);
    }
  }

  /** One object that cannot be read must not keep all others from being seen. */
  #trim(object: KubeObject): T | undefined {
    const { path, trim, log } = this.#options;
    const meta = cachedMeta(object);
    const key = keyOf(meta);
    try {
      const trimmed = trim(object);
      this.#unreadable.delete(key);
      return trimmed;
    } catch (error) {
      if (this.#unreadable.get(key) !== meta.resourceVersion)
        log.error({ path, err: error, ...meta }, `${key} cannot be read, and is left out: ${messageOf(error)}`);
      this.#unreadable.set(key, meta.resourceVersion);
      return undefined;
    }
  }

  #set(object: T): void {
    const key = keyOf(object);
    const previous = this.#objects.get(key);
    if (previous !== undefined && previous.uid !== object.uid) {
      this.#delete(previous);
    } else if (previous !== undefined && !isNewer(object.resourceVersion, previous.resourceVersion)) {
      return;
    }
    this.#objects.set(key, object);
    this.#options.onSet(object, previous?.uid === object.uid ? previous : undefined);
  }

  #delete(object: T): void {
    this.#objects.delete(keyOf(object));
    this.#options.onDelete(object);
  }
}

function keyOf(object: Cached): string {
  return `${object.namespace}/${object.name}`;
}

/** resourceVersions of one resource compare as integers (kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions). */
export function isNewer(a: string, b: string): boolean {
  return a.length === b.length ? a > b : a.length > b.length;
}

/** The server closed the connection, or it was silent for too long: go on from where we were. */
function isEnd(error: unknown): boolean {
  return (
    error === null ||
    error === undefined ||
    (error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError'))
  );
}

/** The client's watch says only the status code. */
function asKubeError(path: string, error: unknown): unknown {
  if (error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number') {
    return new KubeError(`WATCH ${path}`, error.statusCode, { message: error.message });
  }
  return error;
}
