import type { KubeClient } from '#shared/kubernetes/client.ts';
import { KubeError } from '#shared/kubernetes/errors.ts';
import type { KubeObject, Status } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';

import type { TaskRun } from './view.ts';

export type KubeAccess = Pick<KubeClient, 'get' | 'create' | 'patch' | 'delete'>;

export interface ApiRequest {
  readonly verb: 'get' | 'create' | 'patch' | 'delete';
  /** Of the object, also where it is created. */
  readonly path: string;
  readonly dryRun: boolean;
}

/** What a request is answered instead: after it was done, or without. */
export interface Fault {
  readonly isDone: boolean;
  readonly error: Error;
}

type Stored = KubeObject & Record<string, unknown>;

/**
 * A stand-in for the API server, in memory: objects of any kind with UIDs, versions, merge patches, finalizers, preconditions and owners,
 * as far as the life of a TaskRun needs them.
 */
export class StandInApiServer {
  readonly #objects = new Map<string, Stored>();
  readonly #watchers = new Set<(object: Stored, isGone: boolean) => void>();
  /** As an audit log has them, without faults. */
  readonly audit: { readonly verb: string; readonly path: string; readonly status: number }[] = [];
  #version = 100;

  /** A client of it. `intercept` is awaited when a request arrives, and may give a fault. */
  connect(intercept: (request: ApiRequest) => Promise<Fault | null> = async () => null): KubeAccess {
    const answer = async <T>(request: ApiRequest, serve: () => unknown): Promise<T> => {
      const fault = await intercept(request);
      if (fault !== null && !fault.isDone) throw fault.error;
      const body = this.#audited(request, serve);
      if (fault !== null) throw fault.error;
      // What is put in is what comes out, whatever the caller says that it is.
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion
      return body as T;
    };
    return {
      get: (path) => answer({ verb: 'get', path, dryRun: false }, () => this.#find(path)),
      create: (path, body, query) => {
        const dryRun = query?.dryRun === 'All';
        const request = { verb: 'create', path: `${path}/${body.metadata.name}`, dryRun } as const;
        return answer(request, () => this.create(path, body, dryRun));
      },
      patch: (path, body) => answer({ verb: 'patch', path, dryRun: false }, () => this.patch(path, body)),
      delete: (path, preconditions, options) => {
        const dryRun = options?.dryRun === true;
        return answer({ verb: 'delete', path, dryRun }, () => this.delete(path, preconditions?.uid, dryRun));
      },
    };
  }

  /** Calls back at each change of a TaskRun, at once. Gives what ends it. */
  watch(onChange: (object: Stored, isGone: boolean) => void): () => void {
    this.#watchers.add(onChange);
    return () => void this.#watchers.delete(onChange);
  }

  find(path: string): Stored | undefined {
    return this.#objects.get(path);
  }

  /** All in a collection of any namespace, say `secrets`. */
  all(collection: string): Stored[] {
    return [...this.#objects].filter(([path]) => path.split('/').at(-2) === collection).map(([, object]) => object);
  }

  create(path: string, body: TaskRun, dryRun = false): Stored {
    const key = `${path}/${body.metadata.name}`;
    if (this.#objects.has(key)) throw new KubeError(`POST ${path}`, 409, { reason: 'AlreadyExists' });
    const [, namespace = ''] = /namespaces\/([^/]+)/.exec(path) ?? [];
    const uid = `00000000-0000-4000-8000-${String(++this.#version).padStart(12, '0')}`;
    const made: Stored = { ...body, metadata: { ...body.metadata, namespace, uid } };
    return dryRun ? made : this.#store(key, made);
  }

  patch(path: string, body: unknown): Stored {
    const found = this.#find(path);
    // A patch is an object with metadata.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const { uid, resourceVersion } = (body as Partial<KubeObject>).metadata ?? {};
    const isStale = resourceVersion !== undefined && resourceVersion !== found.metadata.resourceVersion;
    if (isStale || (uid !== undefined && uid !== found.metadata.uid))
      throw new KubeError(`PATCH ${path}`, 409, { reason: 'Conflict' });
    // A merge patch of an object gives an object.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const patched = merged(found, body) as Stored;
    if (JSON.stringify(patched) === JSON.stringify(found)) return found;
    return this.#store(path, patched);
  }

  delete(path: string, uid?: string, dryRun = false): Status {
    const found = this.#find(path);
    if (uid !== undefined && uid !== found.metadata.uid)
      throw new KubeError(`DELETE ${path}`, 409, { reason: 'Conflict' });
    const deletionTimestamp = found.metadata.deletionTimestamp ?? new Date(0).toISOString();
    if (!dryRun) this.#store(path, { ...found, metadata: { ...found.metadata, deletionTimestamp } });
    return { details: { name: found.metadata.name, uid: found.metadata.uid ?? '' } };
  }

  /** What Kubernetes does sooner or later: objects go whose owners are gone. */
  collectGarbage(): void {
    const uids = new Set(this.#objects.values().map(({ metadata }) => metadata.uid));
    for (const [path, { metadata }] of this.#objects)
      if (metadata.ownerReferences?.some((owner) => !uids.has(owner.uid)) === true) this.#objects.delete(path);
  }

  #audited({ verb, path }: ApiRequest, serve: () => unknown): unknown {
    try {
      const body = structuredClone(serve());
      this.audit.push({ verb, path, status: 200 });
      return body;
    } catch (error) {
      this.audit.push({ verb, path, status: error instanceof KubeError ? error.status : 0 });
      throw error;
    }
  }

  #find(path: string): Stored {
    const found = this.#objects.get(path);
    if (found === undefined) throw new KubeError(`GET ${path}`, 404, { reason: 'NotFound' });
    return found;
  }

  #store(path: string, object: Stored): Stored {
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
    const { deletionTimestamp, finalizers = [], namespace = '', name } = stored.metadata;
    const isGone = deletionTimestamp !== undefined && finalizers.length === 0;
    if (isGone) this.#objects.delete(path);
    else this.#objects.set(path, stored);
    if (path === PATH.taskRuns(namespace, name)) for (const tell of this.#watchers) tell(stored, isGone);
    return stored;
  }
}

/** RFC 7396. */
function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result = new Map<string, unknown>(typeof target === 'object' && target !== null ? Object.entries(target) : []);
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) result.delete(key);
    else result.set(key, merged(result.get(key), value));
  }
  return Object.fromEntries(result);
}
