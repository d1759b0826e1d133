import { HOST_CONFIG_NAME, LABEL, LOCAL_PLATFORMS_KEY } from '#shared/names.ts';
import type { ConfigMap } from '#shared/kubernetes/objects.ts';
import type { Host } from './hosts/host.ts';

export interface HostEntry {
  readonly host: Pick<Host, 'name' | 'address' | 'port' | 'admin' | 'platform' | 'hostKey'>;
  /** How many TaskRuns it takes at once. */
  readonly slots: number;
  /** Name of the Secret with the admin's key. */
  readonly secret: string;
}

/** The lines of `host-config` for these hosts, their keys pinned. */
export function hostConfigData(
  entries: readonly HostEntry[],
  localPlatforms: readonly string[] = [],
): Record<string, string> {
  const data: Record<string, string> = {};
  for (const { host, slots, secret } of entries) {
    const fields = {
      address: host.address,
      user: host.admin,
      platform: host.platform,
      secret,
      concurrency: String(slots),
      port: String(host.port),
      'host-key': host.hostKey,
    };
    for (const [field, value] of Object.entries(fields)) data[`host.${host.name}.${field}`] = value;
  }
  if (localPlatforms.length > 0) data[LOCAL_PLATFORMS_KEY] = localPlatforms.join(',');
  return data;
}

export function hostConfigMap(namespace: string, data: Record<string, string>): ConfigMap {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: HOST_CONFIG_NAME, namespace, labels: { [LABEL.multiPlatformConfig]: 'hosts' } },
    data,
  };
}
