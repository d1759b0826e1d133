import { LABEL, LOCAL_HOST, SECRET_KEY, secretName } from '#shared/names.ts';
import type { Secret } from '#shared/kubernetes/objects.ts';

import type { TaskRunView } from './view.ts';

/** What the Secret tells the step. */
export type SecretContent =
  | {
      readonly kind: 'login';
      readonly privateKey: string;
      readonly host: string;
      readonly userDir: string;
      readonly knownHosts: string;
      readonly port: number;
    }
  | { readonly kind: 'local' }
  | { readonly kind: 'error'; readonly message: string };

const SSH_PORT = 22;

/**
 * The Secret of a TaskRun. It belongs to the TaskRun, so that Kubernetes collects it even where we never can, and cannot be changed.
 * `port` is there only where it is not 22: Tasks written for the Go implementation do not know it.
 */
export function buildSecret(view: TaskRunView, content: SecretContent): Secret {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: secretName(view.name),
      namespace: view.namespace,
      labels: { [LABEL.multiPlatformSecret]: 'true' },
      ownerReferences: [{ apiVersion: 'tekton.dev/v1', kind: 'TaskRun', name: view.name, uid: view.uid }],
    },
    type: 'Opaque',
    immutable: true,
    stringData: dataOf(content),
  };
}

function dataOf(content: SecretContent): Record<string, string> {
  switch (content.kind) {
    case 'error':
      return { [SECRET_KEY.error]: `${content.message}\n` };
    case 'local':
      return { [SECRET_KEY.host]: LOCAL_HOST };
    case 'login':
      return {
        [SECRET_KEY.privateKey]: content.privateKey,
        [SECRET_KEY.host]: content.host,
        [SECRET_KEY.userDir]: content.userDir,
        [SECRET_KEY.knownHosts]: content.knownHosts,
        ...(content.port !== SSH_PORT && { [SECRET_KEY.port]: String(content.port) }),
      };
  }
}
