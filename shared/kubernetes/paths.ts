/** Builds `…/namespaces/NS/RESOURCE/NAME`; each segment is escaped, whatever it holds. */
function resourcePath(root: string, resource: string, namespace?: string, name?: string): string {
  let path = root;
  if (namespace !== undefined) path += `/namespaces/${encodeURIComponent(namespace)}`;
  path += `/${resource}`;
  if (name !== undefined) path += `/${encodeURIComponent(name)}`;
  return path;
}

type PathOf = (namespace?: string, name?: string) => string;

function namespaced(root: string, resource: string): PathOf {
  return (namespace, name) => resourcePath(root, resource, namespace, name);
}

/** Request paths of the resources that we use. Without a namespace: all namespaces; without a name: the collection. */
export const PATH = {
  configMaps: namespaced('/api/v1', 'configmaps'),
  events: namespaced('/api/v1', 'events'),
  leases: namespaced('/apis/coordination.k8s.io/v1', 'leases'),
  pods: namespaced('/api/v1', 'pods'),
  secrets: namespaced('/api/v1', 'secrets'),
  taskRuns: namespaced('/apis/tekton.dev/v1', 'taskruns'),
  namespace: (name: string) => `/api/v1/namespaces/${encodeURIComponent(name)}`,
  mutatingWebhookConfigurations: (name?: string) =>
    resourcePath('/apis/admissionregistration.k8s.io/v1', 'mutatingwebhookconfigurations', undefined, name),
} as const;
