import type { Clock } from '#shared/clock.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { KubeObject, Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { cachedMeta, Reflector, type Cached } from '#shared/kubernetes/reflector.ts';
import type { Logger } from '#shared/log.ts';
import { SECRET_KEY } from '#shared/names.ts';

interface CachedKey extends Cached {
  readonly privateKey: string | undefined;
}

export interface KeySourceOptions {
  client: KubeClient;
  namespace: string;
  onChange: (secret: string) => void;
  clock: Clock;
  log: Logger;
}

/** The admins' private keys: key `id_rsa` of the Secrets in our namespace, always as they are now. */
export class KeySource {
  readonly #namespace: string;
  readonly #reflector: Reflector<CachedKey>;

  constructor(options: KeySourceOptions) {
    this.#namespace = options.namespace;
    this.#reflector = new Reflector<CachedKey>({
      client: options.client,
      path: PATH.secrets(options.namespace),
      trim: trimKey,
      onSet: (object, previous) => {
        if (previous?.privateKey !== object.privateKey) options.onChange(object.name);
      },
      onDelete: ({ name }) => options.onChange(name),
      clock: options.clock,
      log: options.log,
    });
  }

  /** The private key as text; undefined where there is no such Secret, or no `id_rsa` in it. */
  get(secret: string): string | undefined {
    return this.#reflector.get(this.#namespace, secret)?.privateKey;
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
}

function trimKey(object: KubeObject): CachedKey {
  // The API server's schema for Secrets.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  const encoded = (object as Secret).data?.[SECRET_KEY.privateKey];
  return {
    ...cachedMeta(object),
    privateKey: encoded === undefined ? undefined : Buffer.from(encoded, 'base64').toString(),
  };
}
