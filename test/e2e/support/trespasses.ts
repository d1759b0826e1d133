import { ADMIN_KEY_SECRET } from '#sandbox/sandbox.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { DEFAULT_NAMESPACE, FINALIZER, SECRET_PREFIX } from '#shared/names.ts';

import { BUILDS } from './builds.ts';

const OWN = DEFAULT_NAMESPACE;
const NAME = 'multi-platform-controller';
const CERTIFICATE = `${NAME}-webhook-certificate`;
const ADMISSION = '/apis/admissionregistration.k8s.io/v1';
const VICTIM = PATH.taskRuns(BUILDS, 'victim');
const RBAC = '/apis/rbac.authorization.k8s.io/v1';
const APPS = `/apis/apps/v1/namespaces/${OWN}`;

/** What somebody who got hold of a token would try. */
export type Trespass = readonly [
  what: string,
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
  path: string,
  body?: object,
];

const meta = (name: string, more: object = {}): object => ({ metadata: { name, ...more } });
const pod = (name: string): object => ({ ...meta(name), spec: { containers: [{ name: 'c', image: 'i' }] } });

/** For both. */
const ANYWHERE: readonly Trespass[] = [
  ['read all Secrets', 'GET', '/api/v1/secrets'],
  ['list the Secrets of a tenant', 'GET', PATH.secrets(BUILDS)],
  ["read a tenant's Secret", 'GET', PATH.secrets(BUILDS, 'of-a-tenant')],
  ["read a TaskRun's Secret", 'GET', PATH.secrets(BUILDS, `${SECRET_PREFIX}victim`)],
  ["change a tenant's Secret", 'PATCH', PATH.secrets(BUILDS, 'of-a-tenant'), { data: {} }],
  ["delete a tenant's Secret", 'DELETE', PATH.secrets(BUILDS, 'of-a-tenant')],
  ['delete all Secrets of a tenant', 'DELETE', PATH.secrets(BUILDS)],
  ['change an admin key', 'PATCH', PATH.secrets(OWN, ADMIN_KEY_SECRET), { data: {} }],
  [
    'read the token of a ServiceAccount through a Secret',
    'POST',
    PATH.secrets(OWN),
    {
      ...meta('token', { annotations: { 'kubernetes.io/service-account.name': NAME } }),
      type: 'kubernetes.io/service-account-token',
    },
  ],
  ['read Pods', 'GET', PATH.pods(BUILDS)],
  ['create a Pod', 'POST', PATH.pods(BUILDS), pod('p')],
  ['create a Pod beside us', 'POST', PATH.pods(OWN), pod('p')],
  ['run a command in a Pod', 'POST', `${PATH.pods(BUILDS, 'of-a-tenant')}/exec?command=id`],
  ['delete a Pod', 'DELETE', PATH.pods(BUILDS, 'of-a-tenant')],
  ['create a TaskRun', 'POST', PATH.taskRuns(BUILDS), { ...meta('t'), spec: {} }],
  ['delete a TaskRun', 'DELETE', VICTIM],
  ['write the status of a TaskRun', 'PATCH', `${VICTIM}/status`, { status: {} }],
  ['list namespaces', 'GET', '/api/v1/namespaces'],
  ['read another namespace', 'GET', PATH.namespace(BUILDS)],
  ['change its own namespace', 'PATCH', PATH.namespace(OWN), { metadata: { labels: { a: 'b' } } }],
  ['read nodes', 'GET', '/api/v1/nodes'],
  ['read ConfigMaps of others', 'GET', PATH.configMaps(BUILDS)],
  ['read all ConfigMaps of its namespace', 'GET', PATH.configMaps(OWN)],
  ['change the list of hosts', 'PATCH', PATH.configMaps(OWN, 'host-config'), { data: {} }],
  ['delete the list of hosts', 'DELETE', PATH.configMaps(OWN, 'host-config')],
  ['delete the ledger', 'DELETE', PATH.configMaps(OWN, 'multi-platform-cleanup-ledger')],
  ['create a ConfigMap elsewhere', 'POST', PATH.configMaps(BUILDS), meta('c')],
  ['read Events', 'GET', PATH.events(BUILDS)],
  ['delete an Event', 'DELETE', PATH.events(BUILDS, 'e')],
  ['delete the lease', 'DELETE', PATH.leases(OWN, NAME)],
  ['take a lease of others', 'PATCH', PATH.leases('kube-system', 'kube-controller-manager'), { spec: {} }],
  ['change its own Deployment', 'PATCH', `${APPS}/deployments/${NAME}`, { spec: { replicas: 5 } }],
  ['create a Deployment', 'POST', `${APPS}/deployments`, meta('d')],
  ['ask for a token', 'POST', `/api/v1/namespaces/${OWN}/serviceaccounts/${NAME}/token`, { spec: {} }],
  ['give itself more rights', 'PATCH', `${RBAC}/clusterroles/${NAME}`, { rules: [] }],
  [
    'bind itself to cluster-admin',
    'POST',
    `${RBAC}/clusterrolebindings`,
    {
      ...meta('b'),
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
    },
  ],
  ['list webhooks of others', 'GET', `${ADMISSION}/mutatingwebhookconfigurations`],
  ['delete the registration', 'DELETE', `${ADMISSION}/mutatingwebhookconfigurations/${NAME}`],
  ['register a webhook', 'POST', `${ADMISSION}/mutatingwebhookconfigurations`, meta('w')],
  ['change a webhook of others', 'PATCH', `${ADMISSION}/mutatingwebhookconfigurations/other`, { webhooks: [] }],
  ['register a validating webhook', 'POST', `${ADMISSION}/validatingwebhookconfigurations`, meta('w')],
  ['lift the protection', 'DELETE', `${ADMISSION}/validatingadmissionpolicybindings/${NAME}-marks`],
];

export const TRESPASSES: Readonly<Record<'controller' | 'webhook', readonly Trespass[]>> = {
  controller: [
    ...ANYWHERE,
    ['read the registration', 'GET', `${ADMISSION}/mutatingwebhookconfigurations/${NAME}`],
    // From here on RBAC would let it.
    ['create a Secret of another name', 'POST', PATH.secrets(BUILDS), meta('s')],
    [
      'create a Secret with a generated name',
      'POST',
      PATH.secrets(BUILDS),
      { metadata: { generateName: 'of-a-tenant-' } },
    ],
    [
      'create a token under our name',
      'POST',
      PATH.secrets(OWN),
      {
        ...meta(`${SECRET_PREFIX}t`, { annotations: { 'kubernetes.io/service-account.name': 'default' } }),
        type: 'kubernetes.io/service-account-token',
      },
    ],
    [
      "change a Pod's image",
      'PATCH',
      PATH.pods(BUILDS, 'of-a-tenant'),
      {
        spec: { containers: [{ name: 'c', image: 'evil' }] },
      },
    ],
    ['change the labels of a Pod', 'PATCH', PATH.pods(BUILDS, 'of-a-tenant'), { metadata: { labels: { app: 'b' } } }],
    [
      'change another annotation of a Pod',
      'PATCH',
      PATH.pods(BUILDS, 'of-a-tenant'),
      {
        metadata: { annotations: { note: 'b' } },
      },
    ],
    [
      'take an annotation off a Pod',
      'PATCH',
      PATH.pods(BUILDS, 'of-a-tenant'),
      { metadata: { annotations: { note: null } } },
    ],
    ['put a finalizer on a Pod', 'PATCH', PATH.pods(BUILDS, 'of-a-tenant'), { metadata: { finalizers: ['a.b/c'] } }],
    ['change what a TaskRun does', 'PATCH', VICTIM, { spec: { serviceAccountName: 'admin' } }],
    [
      'give a TaskRun an owner',
      'PATCH',
      VICTIM,
      {
        metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'p', uid: 'u' }] },
      },
    ],
    ['put a label on a TaskRun', 'PATCH', VICTIM, { metadata: { labels: { team: 'b' } } }],
    ['change a label of a TaskRun', 'PATCH', VICTIM, { metadata: { labels: { app: 'b' } } }],
    ['take a label off a TaskRun', 'PATCH', VICTIM, { metadata: { labels: { app: null } } }],
    [
      'sign a TaskRun',
      'PATCH',
      VICTIM,
      {
        metadata: { annotations: { 'chains.tekton.dev/signed': 'true' } },
      },
    ],
    ['take an annotation off a TaskRun', 'PATCH', VICTIM, { metadata: { annotations: { note: null } } }],
    ["take another's finalizer off a TaskRun", 'PATCH', VICTIM, { metadata: { finalizers: null } }],
    ["replace another's finalizer by its own", 'PATCH', VICTIM, { metadata: { finalizers: [FINALIZER] } }],
    ["put another's finalizer on a TaskRun", 'PATCH', VICTIM, { metadata: { finalizers: ['a.b/c', 'd.e/f'] } }],
  ],
  webhook: [
    ...ANYWHERE,
    ['read TaskRuns', 'GET', '/apis/tekton.dev/v1/taskruns'],
    ['mark a TaskRun', 'PATCH', VICTIM, { metadata: { labels: { a: 'b' } } }],
    ['create a Secret beside its own', 'POST', PATH.secrets(OWN), meta('s')],
    ['create a Secret with a generated name', 'POST', PATH.secrets(OWN), { metadata: { generateName: 's-' } }],
    [
      'create a token under the name of its own Secret',
      'POST',
      PATH.secrets(OWN),
      {
        ...meta(CERTIFICATE, { annotations: { 'kubernetes.io/service-account.name': NAME } }),
        type: 'kubernetes.io/service-account-token',
      },
    ],
    ["create a TaskRun's Secret", 'POST', PATH.secrets(BUILDS), meta(`${SECRET_PREFIX}victim`)],
    ['list the Secrets of its namespace', 'GET', PATH.secrets(OWN)],
    ['read an admin key', 'GET', PATH.secrets(OWN, ADMIN_KEY_SECRET)],
    ['delete its own Secret', 'DELETE', PATH.secrets(OWN, CERTIFICATE)],
    ['change a Pod', 'PATCH', PATH.pods(BUILDS, 'of-a-tenant'), { metadata: { annotations: { a: 'b' } } }],
    ['write an Event', 'POST', PATH.events(BUILDS), meta('e')],
    ['read the lease', 'GET', PATH.leases(OWN, NAME)],
    ['read the ledger', 'GET', PATH.configMaps(OWN, 'multi-platform-cleanup-ledger')],
  ],
};
