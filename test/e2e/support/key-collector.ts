import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { KubeObject, Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { Reflector, type Cached } from '#shared/kubernetes/reflector.ts';
import { systemClock } from '#shared/clock.ts';
import { createLog } from '#shared/log.ts';
import { LABEL, SECRET_KEY } from '#shared/names.ts';

interface KeySecret extends Cached {
  readonly privateKey: string | undefined;
}

/** Sees every private key that is ever in one of our Secrets, also in one that is soon gone. */
export interface KeyCollector {
  /** The lines of all keys so far that are nobody else's: what is between the first and the last line, without the common header. */
  secretLines(): string[];
  readonly count: number;
  stop(): Promise<void>;
}

export async function collectKeys(client: KubeClient): Promise<KeyCollector> {
  const keys = new Set<string>();
  const reflector = new Reflector<KeySecret>({
    client,
    path: PATH.secrets(),
    labelSelector: LABEL.multiPlatformSecret,
    trim: (object: KubeObject) => {
      const { metadata, data } = object as Secret;
      const encoded = data?.[SECRET_KEY.privateKey];
      return {
        namespace: metadata.namespace ?? '',
        name: metadata.name,
        uid: metadata.uid ?? '',
        resourceVersion: metadata.resourceVersion ?? '',
        privateKey: encoded === undefined ? undefined : Buffer.from(encoded, 'base64').toString(),
      };
    },
    onSet: ({ privateKey }) => {
      if (privateKey !== undefined) keys.add(privateKey);
    },
    onDelete: () => {},
    clock: systemClock,
    log: createLog({ level: 'error' }),
  });
  await reflector.start();
  return {
    // The first line of the base64 is the same in all keys of a type; the second begins with the public half.
    secretLines: () => [...keys].flatMap((key) => key.trim().split('\n').slice(3, -1)),
    get count() {
      return keys.size;
    },
    stop: async () => await reflector.stop(),
  };
}
