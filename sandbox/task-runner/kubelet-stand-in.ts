import type { Clock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { Logger } from '#shared/log.ts';
import { PodWorker } from './pod-worker.ts';
import type { Pod } from './pod-types.ts';
import type { Runtime } from './runtime.ts';

export const NODE_NAME = 'stand-in';

export interface KubeletStandInOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly runtime: Runtime;
  /** The file that gets what a container writes. */
  readonly logPath: (pod: Pod, container: string) => string;
}

/** Stands in for scheduler and kubelet of one node: every Pod that no scheduling gate holds is bound to it and run. */
export class KubeletStandIn {
  readonly #options: KubeletStandInOptions;
  readonly #workers = new Map<string, PodWorker>();
  readonly #running = new Set<Promise<void>>();
  #stopped = false;

  constructor(options: KubeletStandInOptions) {
    this.#options = options;
  }

  podChanged(pod: Pod, previous: Pod | undefined): void {
    const known = this.#workers.get(pod.metadata.uid ?? '');
    if (known !== undefined) {
      known.changed(pod, previous);
    } else if (!this.#stopped && isOurs(pod) && !isTerminal(pod) && (pod.spec.schedulingGates ?? []).length === 0) {
      this.#start(pod);
    }
  }

  podGone({ metadata: { uid = '' } }: Pod): void {
    this.#workers.get(uid)?.kill();
    this.#workers.delete(uid);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const worker of this.#workers.values()) worker.kill();
    await Promise.all(this.#running);
  }

  #start(pod: Pod): void {
    const { log } = this.#options;
    const worker = new PodWorker(pod, { ...this.#options, nodeName: NODE_NAME });
    const name = `${pod.metadata.namespace}/${pod.metadata.name}`;
    this.#workers.set(pod.metadata.uid ?? '', worker);
    const running = worker
      .run()
      .catch((error: unknown) => log.warn({ pod: name, err: error }, `${name}: ${messageOf(error)}`))
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }
}

function isOurs({ spec: { nodeName } }: Pod): boolean {
  return nodeName === undefined || nodeName === NODE_NAME;
}

function isTerminal({ status }: Pod): boolean {
  return status?.phase === 'Succeeded' || status?.phase === 'Failed';
}
