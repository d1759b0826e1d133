import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';

interface Resources {
  resources: { name: string; verbs: string[] }[];
}

/** `PATH NAME` of each object in the cluster, but for Events and what the API server keeps for itself. */
export async function everything(client: KubeClient): Promise<Set<string>> {
  const { groups } = await client.request<{ groups: { preferredVersion: { groupVersion: string } }[] }>('GET', '/apis');
  const roots = ['/api/v1', ...groups.map(({ preferredVersion }) => `/apis/${preferredVersion.groupVersion}`)];
  const found = new Set<string>();
  for (const root of roots) {
    const { resources } = await client.request<Resources>('GET', root);
    for (const { name, verbs } of resources) {
      if (!verbs.includes('list') || name === 'events' || name === 'componentstatuses') continue;
      const { items } = await client.list<KubeObject>(`${root}/${name}`);
      for (const { metadata } of items) found.add(`${name} ${metadata.namespace ?? '-'}/${metadata.name}`);
    }
  }
  return found;
}
