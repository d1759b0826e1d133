import { DEFAULT_NAMESPACE, PLATFORM_PARAM } from '#shared/names.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';

export const CONFIGURATION_NAME = 'multi-platform-controller';
export const WEBHOOK_NAME = 'taskruns.multi-platform-controller.appstudio.io';
export const WEBHOOK_PATH = '/mutate';

export type FailurePolicy = 'Ignore' | 'Fail';

export interface LabelSelector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}

export type ClientConfig = { caBundle?: string } & (
  | { service: { name: string; namespace: string; path?: string; port?: number } }
  | { url: string }
);

export interface MutatingWebhook {
  name: string;
  clientConfig: ClientConfig;
  [other: string]: unknown;
}

export interface MutatingWebhookConfiguration extends KubeObject {
  webhooks?: MutatingWebhook[];
}

/** Nothing of ours may stand in the way of the cluster's own work. */
export const SYSTEM_NAMESPACES: readonly string[] = ['kube-system', 'kube-public', 'kube-node-lease'];

/** What both ways of marking are called for. v1beta1 comes as v1, by `matchPolicy: Equivalent`. */
export const TASK_RUN_RULE: Readonly<Record<string, unknown>> = {
  apiGroups: ['tekton.dev'],
  apiVersions: ['v1'],
  operations: ['CREATE'],
  resources: ['taskruns'],
  scope: 'Namespaced',
};

/** CEL. It asks before it reads: an error would count as a failure of the webhook. */
export const MATCH_CONDITIONS: readonly { name: string; expression: string }[] = [
  {
    name: 'has-platform',
    expression:
      'has(object.spec) && has(object.spec.params) && object.spec.params.exists(p, ' +
      `has(p.name) && p.name == '${PLATFORM_PARAM}' && has(p.value) && type(p.value) == string)`,
  },
];

/** The namespaces that we mark in at creation: those of `selector`, without the system's and our own. The controller's scan finds the rest. */
export function namespaceSelector(ownNamespace: string, selector: LabelSelector = {}): LabelSelector {
  const systemNamespaces = {
    key: 'kubernetes.io/metadata.name',
    operator: 'NotIn',
    values: [...SYSTEM_NAMESPACES, ownNamespace],
  };
  return { ...selector, matchExpressions: [systemNamespaces, ...(selector.matchExpressions ?? [])] };
}

export interface RegistrationOptions {
  /** Where the API server finds the webhook: its Service, or a URL up to and without the path. */
  server: { service: { name: string; namespace: string; port?: number } } | { url: string };
  /** Default: {@link CONFIGURATION_NAME}. */
  name?: string;
  /** Namespace of this installation. */
  namespace?: string;
  failurePolicy?: FailurePolicy;
  namespaceSelector?: LabelSelector;
  /** `NAMESPACE/NAME` of a cert-manager Certificate whose CA is to be put into the `caBundle`. */
  injectCaFrom?: string;
}

/**
 * The registration, without a `caBundle`: the webhook writes that itself, or cert-manager does, or the owner of the certificate files.
 * The Helm chart renders the same object.
 */
export function buildRegistration(options: RegistrationOptions): MutatingWebhookConfiguration {
  const { server, namespace = DEFAULT_NAMESPACE, injectCaFrom } = options;
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: {
      name: options.name ?? CONFIGURATION_NAME,
      ...(injectCaFrom !== undefined && { annotations: { 'cert-manager.io/inject-ca-from': injectCaFrom } }),
    },
    webhooks: [
      {
        name: WEBHOOK_NAME,
        clientConfig:
          'url' in server
            ? { url: server.url + WEBHOOK_PATH }
            : { service: { ...server.service, path: WEBHOOK_PATH, port: server.service.port ?? 443 } },
        rules: [TASK_RUN_RULE],
        matchPolicy: 'Equivalent',
        matchConditions: MATCH_CONDITIONS,
        namespaceSelector: namespaceSelector(namespace, options.namespaceSelector),
        failurePolicy: options.failurePolicy ?? 'Ignore',
        reinvocationPolicy: 'IfNeeded',
        sideEffects: 'None',
        timeoutSeconds: 3,
        admissionReviewVersions: ['v1'],
      },
    ],
  };
}

/** The name that the API server expects in the certificate. */
export function serverNameOf(clientConfig: ClientConfig): string {
  if ('url' in clientConfig) return new URL(clientConfig.url).hostname.replace(/^\[|\]$/g, '');
  return `${clientConfig.service.name}.${clientConfig.service.namespace}.svc`;
}
