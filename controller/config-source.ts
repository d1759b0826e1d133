import type { Clock } from '#shared/clock.ts';
import { isUnusable, parseHostConfig, type ConfigProblem, type HostConfig } from '#shared/host-config.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { ConfigMap, KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { cachedMeta, Reflector, type Cached } from '#shared/kubernetes/reflector.ts';
import type { Logger } from '#shared/log.ts';
import { HOST_CONFIG_NAME } from '#shared/names.ts';

import type { EventRecorder, EventTarget } from './events.ts';
import type { ConfigState } from './taskrun/decide.ts';

interface CachedConfigMap extends Cached {
  readonly data: Readonly<Record<string, string>>;
}

export interface ConfigSourceOptions {
  client: KubeClient;
  namespace: string;
  events: Pick<EventRecorder, 'record'>;
  onChange: (config: HostConfig) => void;
  clock: Clock;
  log: Logger;
}

/** Watches `host-config`. The last list that could be used stays in force where a new one cannot, or where it is deleted. */
export class ConfigSource {
  readonly #options: ConfigSourceOptions;
  readonly #reflector: Reflector<CachedConfigMap>;
  #state: ConfigState = { missing: 'it is not there' };
  #errors = 0;
  /** What was said already: a key that belongs to a later release is worth one line, not one for each change. */
  readonly #warned = new Set<string>();

  constructor(options: ConfigSourceOptions) {
    this.#options = options;
    this.#reflector = new Reflector<CachedConfigMap>({
      client: options.client,
      path: PATH.configMaps(options.namespace),
      fieldSelector: `metadata.name=${HOST_CONFIG_NAME}`,
      trim: trimConfigMap,
      onSet: (object) => this.#take(object),
      onDelete: () =>
        options.log.error(`ConfigMap ${HOST_CONFIG_NAME} was deleted: the last list of hosts stays in force`),
      clock: options.clock,
      log: options.log,
    });
  }

  get state(): ConfigState {
    return this.#state;
  }

  /** Entries that are wrong. */
  get errorCount(): number {
    return this.#errors;
  }

  get hasSynced(): boolean {
    return this.#reflector.hasSynced;
  }

  start(): Promise<void> {
    return this.#reflector.start();
  }

  stop(): Promise<void> {
    return this.#reflector.stop();
  }

  #take(object: CachedConfigMap): void {
    const { log, onChange } = this.#options;
    const config = parseHostConfig(object.data);
    this.#errors = config.problems.filter((problem) => problem.fatal).length;
    for (const problem of config.problems) this.#report(problem, object);
    if (isUnusable(config)) {
      const why = 'nothing in it can be used';
      if ('config' in this.#state)
        log.error(`ConfigMap ${HOST_CONFIG_NAME}: ${why}; the last list of hosts stays in force`);
      else this.#state = { missing: why };
      return;
    }
    this.#state = { config };
    log.info(
      { hosts: config.hosts.size, localPlatforms: [...config.localPlatforms] },
      `took over a list of ${config.hosts.size} hosts`,
    );
    onChange(config);
  }

  #report({ key, message, fatal }: ConfigProblem, { namespace, name, uid }: CachedConfigMap): void {
    const { log, events } = this.#options;
    if (!fatal && this.#warned.has(key)) return;
    if (!fatal) this.#warned.add(key);
    const line = `ConfigMap ${HOST_CONFIG_NAME}, key ${key}: ${message}`;
    if (fatal) log.error({ key }, line);
    else log.warn({ key }, line);
    const target: EventTarget = { apiVersion: 'v1', kind: 'ConfigMap', namespace, name, uid };
    events.record('badConfig', target, `${key}: ${message}`);
  }
}

function trimConfigMap(object: KubeObject): CachedConfigMap {
  // The API server's schema for ConfigMaps.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return { ...cachedMeta(object), data: (object as ConfigMap).data ?? {} };
}
