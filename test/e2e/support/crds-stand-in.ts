import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';

import { until } from './builds.ts';

const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

/**
 * Stand-ins for the resources of cert-manager and of the Prometheus operator: the API server knows the kinds and takes anything as their
 * content.
 */
export async function installStandInCrds(client: KubeClient): Promise<void> {
  for (const [group, plural, kind] of [
    ['cert-manager.io', 'certificates', 'Certificate'],
    ['cert-manager.io', 'issuers', 'Issuer'],
    ['monitoring.coreos.com', 'podmonitors', 'PodMonitor'],
  ] as const) {
    await client.create<KubeObject & { spec: object }>(CRDS, {
      metadata: { name: `${plural}.${group}` },
      spec: {
        group,
        scope: 'Namespaced',
        names: { plural, singular: kind.toLowerCase(), kind, listKind: `${kind}List` },
        versions: [
          {
            name: 'v1',
            served: true,
            storage: true,
            schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
          },
        ],
      },
    });
    await until(`${plural} to be served`, () =>
      client.list(`/apis/${group}/v1/${plural}`).then(
        () => true as const,
        () => null,
      ),
    );
  }
}
