import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound } from '#shared/kubernetes/errors.ts';
import type { ConfigMap, Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import type { KeyToPath, Volume } from './tekton-types.ts';
import type { VolumeContent, VolumeFile } from './runtime.ts';
import { UnsupportedError } from './unsupported.ts';

const DEFAULT_MODE = 0o644;

export type Values = ReadonlyMap<string, Buffer>;

/** The values of a Secret or a ConfigMap, null where it is not there. */
export async function fetchValues(
  client: KubeClient,
  kind: 'secret' | 'configMap',
  namespace: string,
  name: string,
): Promise<Values | null> {
  if (kind === 'secret') {
    const secret = await ignoreNotFound(client.get<Secret>(PATH.secrets(namespace, name)));
    return secret && decode(secret.data, 'base64');
  }
  const configMap = await ignoreNotFound(client.get<ConfigMap>(PATH.configMaps(namespace, name)));
  return configMap && decode(configMap.data, 'utf8');
}

function decode(data: Record<string, string> = {}, encoding: 'base64' | 'utf8'): Values {
  return new Map(Object.entries(data).map(([key, value]) => [key, Buffer.from(value, encoding)]));
}

/** Where a volume's files come from; null for an emptyDir. */
export interface Source {
  readonly kind: 'secret' | 'configMap';
  readonly name: string;
  readonly optional: boolean;
  readonly items: readonly KeyToPath[] | undefined;
  readonly mode: number;
}

/** @throws UnsupportedError */
export function sourceOf({ name, emptyDir, secret, configMap }: Volume): Source | null {
  if (emptyDir !== undefined) return null;
  const source = secret ?? configMap;
  if (source === undefined) throw new UnsupportedError(`volume ${name} is neither emptyDir, secret nor configMap`);
  const { optional = false, items, defaultMode: mode = DEFAULT_MODE } = source;
  const [kind, of] =
    secret === undefined ? (['configMap', configMap?.name] as const) : (['secret', secret.secretName] as const);
  return { kind, name: of ?? '', optional, items, mode };
}

/** The volume as it is mounted, or what is missing for it. `values` is null where its object is not there. */
export function contentOf(volume: string, source: Source, values: Values | null): VolumeContent | { missing: string } {
  if (values === null) {
    return source.optional
      ? { name: volume, files: [], readOnly: true }
      : {
          missing: `MountVolume.SetUp failed for volume "${volume}" : ${source.kind.toLowerCase()} "${source.name}" not found`,
        };
  }
  const items = source.items ?? Array.from(values.keys(), (key): KeyToPath => ({ key, path: key }));
  const files: VolumeFile[] = [];
  for (const { key, path, mode = source.mode } of items) {
    const content = values.get(key);
    if (content !== undefined) files.push({ path, content, mode });
    else if (!source.optional) {
      return {
        missing: `MountVolume.SetUp failed for volume "${volume}" : references non-existent secret key: ${key}`,
      };
    }
  }
  return { name: volume, files, readOnly: true };
}
