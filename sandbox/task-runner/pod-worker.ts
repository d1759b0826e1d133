import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '#shared/clock.ts';
import { AppError, messageOf } from '#shared/errors.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound, isConflict, isNotFound, KubeError } from '#shared/kubernetes/errors.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import type { Logger } from '#shared/log.ts';
import { runContainer } from './container.ts';
import { environmentOf } from './environment.ts';
import { MountRetry } from './mount-retry.ts';
import { STAND_IN_PATH } from './paths.ts';
import { PodProgress } from './pod-progress.ts';
import type { Pod } from './pod-types.ts';
import { PLACE_SCRIPTS } from './pod.ts';
import type { PodSandbox, Runtime, VolumeContent } from './runtime.ts';
import { UnsupportedError } from './unsupported.ts';
import { contentOf, fetchValues, sourceOf, type Values } from './volumes.ts';

export interface PodWorkerOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly runtime: Runtime;
  readonly nodeName: string;
  readonly logPath: (pod: Pod, container: string) => string;
}

const RETRY_MS = 1000;

type Environments = ReadonlyMap<string, ReadonlyMap<string, string>>;

/** Runs one Pod from its binding to its end. */
export class PodWorker {
  readonly #options: PodWorkerOptions;
  /** Aborted when the Pod is to end; `#killed` when it is to end at once. */
  readonly #terminating = new AbortController();
  readonly #killed = new AbortController();
  readonly #progress: PodProgress;
  #pod: Pod;
  #look = new AbortController();

  constructor(pod: Pod, options: PodWorkerOptions) {
    this.#pod = pod;
    this.#options = options;
    this.#progress = new PodProgress(pod, options.clock);
  }

  changed(pod: Pod, previous: Pod | undefined): void {
    this.#pod = pod;
    if (pod.metadata.deletionTimestamp !== undefined) this.#terminating.abort();
    if (!sameAnnotations(pod, previous)) this.#look.abort();
  }

  /** The Pod object is gone, or we stop: nothing of it may go on. */
  kill(): void {
    this.#killed.abort();
    this.#terminating.abort();
  }

  async run(): Promise<void> {
    if (this.#pod.metadata.deletionTimestamp !== undefined) this.#terminating.abort();
    await this.#bind();
    try {
      const ready = await this.#waitForVolumes();
      if (ready !== null) await this.#runContainers(ready.volumes, ready.environments);
    } catch (error) {
      this.#progress.fail(messageOf(error));
    }
    if (this.#killed.signal.aborted) return;
    if (this.#terminating.signal.aborted) this.#progress.fail('the Pod was deleted');
    await this.#writeStatus();
    if (this.#terminating.signal.aborted) await this.#remove();
  }

  async #bind(): Promise<void> {
    const { client, nodeName } = this.#options;
    const { namespace = '', name, uid } = this.#pod.metadata;
    if (this.#pod.spec.nodeName !== undefined) return;
    const binding = {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name, ...(uid !== undefined && { uid }) },
      target: { apiVersion: 'v1', kind: 'Node', name: nodeName },
    };
    const url = STAND_IN_PATH.podBinding(namespace, name);
    await this.#insist(async () => {
      try {
        await client.request('POST', url, { body: binding });
      } catch (error) {
        if (!isConflict(error) && !isNotFound(error)) throw error;
      }
    });
  }

  /** Null where the Pod ends before all is there. */
  async #waitForVolumes(): Promise<{ volumes: VolumeContent[]; environments: Environments } | null> {
    const { clock, log } = this.#options;
    const retry = new MountRetry();
    for (;;) {
      // Set before looking: a change that comes meanwhile must not be missed.
      this.#look = new AbortController();
      const look = AbortSignal.any([this.#look.signal, this.#terminating.signal]);
      if (this.#terminating.signal.aborted) return null;
      const found = await this.#insist(() => this.#mount());
      if (!('missing' in found)) return found;
      const { namespace, name } = this.#pod.metadata;
      log.debug({ pod: `${namespace}/${name}` }, found.missing);
      retry.missed(clock.now());
      await clock.sleep(Math.max(0, retry.notBeforeMs - clock.now()), look);
    }
  }

  async #mount(): Promise<{ volumes: VolumeContent[]; environments: Environments } | { missing: string }> {
    const { spec } = this.#pod;
    const fetched = new Map<string, Promise<Values | null>>();
    const fetch = (kind: 'secret' | 'configMap', name: string): Promise<Values | null> => {
      const key = `${kind}/${name}`;
      const known =
        fetched.get(key) ?? fetchValues(this.#options.client, kind, this.#pod.metadata.namespace ?? '', name);
      fetched.set(key, known);
      return known;
    };
    const volumes: VolumeContent[] = [];
    for (const volume of spec.volumes ?? []) {
      const source = sourceOf(volume);
      if (source === null) {
        volumes.push(this.#emptyDir(volume.name));
        continue;
      }
      const content = contentOf(volume.name, source, await fetch(source.kind, source.name));
      if ('missing' in content) return content;
      volumes.push(content);
    }
    const environments = new Map<string, ReadonlyMap<string, string>>();
    for (const container of spec.containers) {
      const result = await environmentOf(container, this.#pod, async (kind, name, key) =>
        (await fetch(kind, name))?.get(key)?.toString(),
      );
      if ('missing' in result) return result;
      environments.set(container.name, result.env);
    }
    return { volumes, environments };
  }

  /** Empty but for the scripts that the init container would place. */
  #emptyDir(name: string): VolumeContent {
    const init = this.#pod.spec.initContainers?.find((container) => container.name === PLACE_SCRIPTS);
    const mount = init?.volumeMounts?.find((volumeMount) => volumeMount.name === name);
    if (mount === undefined) return { name, files: [], readOnly: false };
    const args = init?.args ?? [];
    const files = args.flatMap((file, index) =>
      index % 2 === 1
        ? []
        : [
            {
              path: path.posix.relative(mount.mountPath, file),
              content: Buffer.from(args[index + 1] ?? '', 'base64'),
              mode: 0o755,
            },
          ],
    );
    return { name, files, readOnly: false };
  }

  async #runContainers(volumes: readonly VolumeContent[], environments: Environments): Promise<void> {
    const { runtime, clock } = this.#options;
    const sandbox = await runtime.start(volumes);
    const stopTerminating = this.#whenTerminating(sandbox);
    try {
      for (const container of this.#pod.spec.containers) {
        this.#progress.started(container.name);
        if (this.#terminating.signal.aborted) return;
        await this.#writeStatus();
        const logPath = this.#options.logPath(this.#pod, container.name);
        await mkdir(path.dirname(logPath), { recursive: true });
        const env = environments.get(container.name) ?? new Map<string, string>();
        const outcome = await runContainer({ container, env, logPath, sandbox, clock });
        this.#progress.ended(container.name, outcome);
        if (outcome.code !== 0) return;
      }
    } finally {
      stopTerminating();
      await sandbox.destroy();
    }
  }

  /** SIGTERM, and when the Pod's grace is over, or the Pod is gone, the end of all its processes. */
  #whenTerminating(sandbox: PodSandbox): () => void {
    const { clock } = this.#options;
    const over = new AbortController();
    const terminate = async (): Promise<void> => {
      sandbox.signal('SIGTERM');
      const graceSeconds = this.#pod.metadata.deletionGracePeriodSeconds ?? 30;
      await clock.sleep(graceSeconds * 1000, AbortSignal.any([over.signal, this.#killed.signal]));
      if (!over.signal.aborted) await sandbox.destroy();
    };
    const onAbort = (): void => void terminate();
    if (this.#terminating.signal.aborted) onAbort();
    else this.#terminating.signal.addEventListener('abort', onAbort, { once: true });
    return () => {
      over.abort();
      this.#terminating.signal.removeEventListener('abort', onAbort);
    };
  }

  async #writeStatus(): Promise<void> {
    const { namespace = '', name } = this.#pod.metadata;
    const status = this.#progress.status();
    const url = STAND_IN_PATH.podStatus(namespace, name);
    await this.#insist(() => ignoreNotFound(this.#options.client.patch<Pod>(url, { status })));
  }

  async #remove(): Promise<void> {
    const { namespace = '', name, uid } = this.#pod.metadata;
    const body = { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0, preconditions: { uid } };
    await this.#insist(() =>
      ignoreNotFound(this.#options.client.request('DELETE', PATH.pods(namespace, name), { body })),
    );
  }

  /** An API server that is away comes back; until then the Pod stays as it is. */
  async #insist<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const refused = !(error instanceof AppError) || (error instanceof KubeError && error.status < 500);
        if (refused || error instanceof UnsupportedError || this.#killed.signal.aborted) throw error;
        await this.#options.clock.sleep(RETRY_MS, this.#killed.signal);
      }
    }
  }
}

function sameAnnotations(a: Pod, b: Pod | undefined): boolean {
  return JSON.stringify(a.metadata.annotations ?? {}) === JSON.stringify(b?.metadata.annotations ?? {});
}
