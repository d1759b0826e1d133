import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { ensureControlPlaneAssets } from '#sandbox/control-plane/binaries.ts';
import { startControlPlane, type ControlPlane } from '#sandbox/control-plane/control-plane.ts';
import { mustRun } from '#sandbox/hosts/command.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound } from '#shared/kubernetes/errors.ts';
import type { ConfigMap, KubeObject, Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { parseHostConfig } from '#shared/host-config.ts';

import { issuePair } from '#webhook/certificate.ts';

import { until } from './support/builds.ts';
import { installStandInCrds } from './support/crds-stand-in.ts';
import { CHART, collectionOf, finishJob, objectsOf, useHelm, type Helm } from './support/helm.ts';
import { everything } from './support/everything.ts';

const NAMESPACE = 'multi-platform';
const OWN_SECRET = 'multi-platform-controller-webhook-certificate';
const CERT_MANAGER_SECRET = 'multi-platform-controller-webhook-cert-manager';
// A real one: the API server parses it.
const CA = (await issuePair({ names: ['a'], notBefore: new Date(0), notAfter: new Date(1e12) })).ca;
const KEY = `ssh-ed25519 ${'A'.repeat(68)}`;
const HOST = { name: 'a', address: '10.0.0.1', user: 'root', platform: 'linux/arm64', secret: 'key', concurrency: 4 };

const VARIANTS: Readonly<Record<string, Record<string, unknown>>> = {
  'the defaults': {},
  'everything on': {
    image: {
      repository: 'registry.example.com:5000/team/mpc',
      digest: `sha256:${'0'.repeat(64)}`,
      pullPolicy: 'Always',
    },
    imagePullSecrets: [{ name: 'pull' }],
    labels: { team: 'build', 'example.com/cost': 'a' },
    hosts: [HOST, { ...HOST, name: 'b.example', address: 'fd00::1', port: 2222, concurrency: 0, hostKeys: [KEY, KEY] }],
    localPlatforms: ['linux/x86_64', 'local'],
    waitTimeouts: { default: '2h', 'linux/arm64': '30m' },
    namespaceSelector: {
      matchLabels: { builds: 'yes' },
      matchExpressions: [{ key: 'stage', operator: 'In', values: ['test'] }],
    },
    controller: {
      replicas: 3,
      accountMaxProcesses: 4096,
      accountCpuSeconds: 36_000,
      hostKeyPolicy: 'strict',
      keyType: 'rsa',
      priorityClassName: 'system-cluster-critical',
      nodeSelector: { 'kubernetes.io/os': 'linux' },
      tolerations: [{ key: 'infra', operator: 'Exists' }],
      affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [] } },
      topologySpreadConstraints: [
        { maxSkew: 1, topologyKey: 'topology.kubernetes.io/zone', whenUnsatisfiable: 'DoNotSchedule' },
      ],
    },
    webhook: { failurePolicy: 'Fail', replicas: 3, priorityClassName: 'system-cluster-critical' },
    networkPolicy: { enabled: true, apiServerPorts: [6443] },
    podMonitor: { enabled: true, interval: '10s', labels: { release: 'prometheus' } },
  },
  'everything off': {
    controller: { replicas: 1 },
    webhook: { enabled: false },
    protection: { enabled: false },
    podDisruptionBudget: { enabled: false },
  },
  'the webhook off': { hosts: [HOST], webhook: { enabled: false } },
  'cert-manager': { hosts: [HOST], webhook: { certificate: 'cert-manager' } },
  "cert-manager with an issuer of the user's": {
    webhook: { certificate: 'cert-manager', issuerRef: { name: 'corporate', kind: 'ClusterIssuer' } },
  },
  "a certificate of the user's": { webhook: { certificate: 'secret', certificateSecret: 'tls', caBundle: CA } },
  'a policy in place of the webhook': { hosts: [HOST], webhook: { mode: 'policy', failurePolicy: 'Fail' } },
  'a ConfigMap that is there': { existingConfigMap: true },
};

/** What is wrong, the values, and what the refusal must name. */
const WRONG: readonly (readonly [what: string, values: object, message: RegExp])[] = [
  ['a typo at the top', { contoller: { replicas: 2 } }, /contoller/],
  ['a typo in the controller', { controller: { replcas: 2 } }, /\/controller.*replcas/s],
  ['a typo in the webhook', { webhook: { enable: false } }, /\/webhook.*enable/s],
  ['a typo in a host', { hosts: [{ ...HOST, hostKey: KEY }] }, /\/hosts\/0.*hostKey/s],
  ['a number as a text', { hosts: [{ ...HOST, concurrency: '4' }] }, /\/hosts\/0\/concurrency.*string.*integer/s],
  ['no slots that make sense', { hosts: [{ ...HOST, concurrency: -1 }] }, /\/hosts\/0\/concurrency/],
  ['a host without address', { hosts: [{ ...HOST, address: undefined }] }, /\/hosts\/0.*address/s],
  ['an address that is none', { hosts: [{ ...HOST, address: '10.0.0.256' }] }, /\/hosts\/0\/address/],
  ['a platform that is none', { hosts: [{ ...HOST, platform: 'arm64' }] }, /\/hosts\/0\/platform/],
  ['a host key that is none', { hosts: [{ ...HOST, hostKeys: ['SHA256:abc'] }] }, /\/hosts\/0\/hostKeys\/0/],
  ['a key where its Secret is named', { hosts: [{ ...HOST, secret: '-----BEGIN KEY-----' }] }, /\/hosts\/0\/secret/],
  ['a port that is none', { hosts: [{ ...HOST, port: 70_000 }] }, /\/hosts\/0\/port/],
  ['two hosts of one name', { hosts: [HOST, HOST] }, /hosts: there are two with the name "a"/],
  ['hosts as in the ConfigMap', { hosts: { 'host.a.address': '10.0.0.1' } }, /\/hosts.*object.*array/s],
  ['a duration without a unit', { controller: { letGoAfter: '10' } }, /\/controller\/letGoAfter/],
  ['a duration as a number', { controller: { scanInterval: 60 } }, /\/controller\/scanInterval/],
  ['a scan without end', { controller: { scanInterval: '0s' } }, /\/controller\/scanInterval/],
  // Helm takes null for: without the default.
  ['an empty failurePolicy', { webhook: { failurePolicy: null } }, /\/webhook.*failurePolicy/s],
  ['an empty mode', { webhook: { mode: null } }, /\/webhook.*mode/s],
  ['an empty log level', { controller: { logLevel: null } }, /\/controller.*logLevel/s],
  ['an empty group', { webhook: null }, /missing.*webhook/s],
  ['an empty image', { image: null }, /missing.*image/s],
  ['an empty list of ports', { networkPolicy: { apiServerPorts: null } }, /\/networkPolicy.*apiServerPorts/s],
  ['a policy that there is none of', { controller: { hostKeyPolicy: 'none' } }, /\/controller\/hostKeyPolicy/],
  ['a failurePolicy in small letters', { webhook: { failurePolicy: 'ignore' } }, /\/webhook\/failurePolicy/],
  ['a toggle as a text', { webhook: { enabled: 'false' } }, /\/webhook\/enabled.*string.*boolean/s],
  ['no replica', { controller: { replicas: 0 } }, /\/controller\/replicas/],
  ['a timeout for what is no platform', { waitTimeouts: { arm: '30m' } }, /\/waitTimeouts.*arm/s],
  ['a list beside a ConfigMap', { existingConfigMap: true, hosts: [HOST] }, /existingConfigMap: with it hosts/],
  ['an issuer that nobody asks', { webhook: { issuerRef: { name: 'i' } } }, /webhook\.issuerRef: it is for/],
  [
    'an issuer without name',
    { webhook: { certificate: 'cert-manager', issuerRef: { kind: 'Issuer' } } },
    /webhook\.issuerRef: it needs a name/,
  ],
  ['a certificate without a Secret', { webhook: { certificate: 'secret' } }, /certificateSecret: .* needs the name/],
  ['a Secret that nobody reads', { webhook: { certificateSecret: 'tls' } }, /are for webhook\.certificate=secret/],
  [
    'a Secret that the chart would delete',
    { webhook: { certificate: 'secret', certificateSecret: OWN_SECRET } },
    /certificateSecret: .* is a name of the chart's own/,
  ],
  [
    'a key where a certificate is wanted',
    { webhook: { certificate: 'secret', certificateSecret: 'tls', caBundle: CA.replaceAll('CERTIFICATE', 'KEY') } },
    /\/webhook\/caBundle/,
  ],
  ['a label that Kubernetes refuses', { labels: { team: 'a b' } }, /\/labels\/team/],
  ['a digest that is none', { image: { digest: 'latest' } }, /\/image\/digest/],
];

let controlPlane: ControlPlane;
let client: KubeClient;
let helm: Helm;
let folder: string;

beforeAll(async () => {
  const progress = { step: () => {}, update: () => {} };
  controlPlane = await startControlPlane({
    assets: await ensureControlPlaneAssets({ env: process.env, progress }),
    progress,
  });
  client = controlPlane.client;
  folder = await mkdtemp(path.join(tmpdir(), 'helm-values-'));
  helm = await useHelm({ kubeconfig: controlPlane.kubeconfigPath, folder });
  for (const name of [NAMESPACE, 'second'])
    await client.create('/api/v1/namespaces', {
      metadata: { name, labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
    });
});

afterAll(async () => {
  await controlPlane?.stop();
  await rm(folder, { recursive: true, force: true });
});

function install(release: string, namespace: string, values: object): ReturnType<Helm['run']> {
  return helm.run(['install', release, CHART, '--namespace', namespace], values);
}

describe('before cert-manager and the Prometheus operator are there', () => {
  test.each([
    [{ webhook: { certificate: 'cert-manager' } }, 'webhook.certificate: this cluster has no cert-manager'],
    [{ podMonitor: { enabled: true } }, 'podMonitor.enabled: this cluster has no Prometheus operator'],
  ])('%j is refused', async (values, message) => {
    const { code, stderr } = await install('mpc', NAMESPACE, values);
    expect(code).not.toBe(0);
    expect(stderr).toContain(message);
  });

  test('a cluster that is too old is refused', async () => {
    const { code, stderr } = await helm.run(['template', CHART, '--kube-version', '1.29.9']);
    expect(code).not.toBe(0);
    expect(stderr).toContain('>=1.30.0-0');
  });
});

describe('with', () => {
  beforeAll(async () => {
    await installStandInCrds(client);
  });

  test.each(Object.entries(VARIANTS))(
    '%s: the chart passes lint, and the API server takes each object',
    async (_what, values) => {
      const server = ['--namespace', NAMESPACE, '--kube-version', '1.37'];
      await helm.must(['lint', '--strict', CHART, ...server], values);
      const rendered = await helm.must(
        ['template', 'mpc', CHART, '--namespace', NAMESPACE, '--dry-run=server'],
        values,
      );
      const objects = objectsOf(rendered);
      const refused: string[] = [];
      for (const object of [...objects, ...objects.flatMap(podOf)]) {
        const query = { dryRun: 'All', fieldValidation: 'Strict' };
        await client
          .request('POST', await collectionOf(client, object, NAMESPACE), { body: object, query })
          .catch((error: unknown) => {
            refused.push(`${object.kind} ${object.metadata.name}: ${String(error)}`);
          });
      }
      expect(refused).toEqual([]);
      const staying = objects.filter((object) => !isTakenAway(object));
      expect(staying.filter(({ metadata }) => metadata.labels?.['app.kubernetes.io/name'] === undefined)).toEqual([]);
      const webhooks = staying.filter(({ kind, metadata }) => /webhook/i.test(`${kind} ${metadata.name}`));
      const isServer = JSON.stringify(values).match(/"enabled":false|"mode":"policy"/) === null;
      expect(webhooks.length > 0).toBe(isServer);
    },
  );

  test('every flag in every variant is one that the program knows', async () => {
    const used = new Map<string, Set<string>>();
    for (const values of Object.values(VARIANTS)) {
      const rendered = await helm.must(['template', 'mpc', CHART, '--dry-run=server'], values);
      for (const pod of objectsOf(rendered).flatMap(podOf)) {
        const { args } = (pod as KubeObject & { spec: { containers: [{ args: string[] }] } }).spec.containers[0];
        const program = args.findIndex((arg) => arg.endsWith('.js'));
        const flags = used.get(args[program] ?? '') ?? new Set();
        used.set(args[program] ?? '', flags);
        for (const arg of args.slice(program + 1)) flags.add(arg.split('=')[0] ?? '');
      }
    }
    expect([...used.keys()].toSorted()).toEqual(['controller.js', 'uninstall.js', 'webhook.js']);
    for (const [program, flags] of used) {
      const source = { 'controller.js': 'controller/main.ts', 'uninstall.js': 'controller/uninstall.ts' }[program];
      const file = path.join(CHART, '..', '..', source ?? 'webhook/main.ts');
      const help = await mustRun(process.execPath, [file, '--help'], { env: {} });
      const unknown = [...flags].filter((flag) => !new RegExp(`^ +${flag} `, 'm').test(help));
      expect([program, unknown]).toEqual([program, []]);
    }
  });

  test('hosts as a list gives the host-config that the controller reads', async () => {
    const values = VARIANTS['everything on'] ?? {};
    const rendered = objectsOf(await helm.must(['template', 'mpc', CHART, '--dry-run=server'], values));
    const map = rendered.find(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === 'host-config',
    ) as ConfigMap;
    expect(parseHostConfig(map.data ?? {})).toEqual({
      hosts: new Map([
        ['a', { ...HOST, port: 22, hostKeys: [] }],
        [
          'b.example',
          { ...HOST, name: 'b.example', address: 'fd00::1', port: 2222, concurrency: 0, hostKeys: [KEY, KEY] },
        ],
      ]),
      leftOut: new Map(),
      localPlatforms: new Set(['linux/x86_64', 'local']),
      waitTimeoutMs: new Map([
        ['', 7_200_000],
        ['linux-arm64', 1_800_000],
      ]),
      problems: [],
    });
  });

  test('each Pod has a network policy, and that of the uninstall hook may go where the controller may', async () => {
    const values = { ...VARIANTS['everything on'], networkPolicy: { enabled: true } };
    const rendered = objectsOf(await helm.must(['template', 'mpc', CHART, '--dry-run=server'], values));
    const policies = rendered.filter(({ kind }) => kind === 'NetworkPolicy') as NetworkPolicy[];
    const out = rendered.flatMap(podOf).map(({ metadata }) => {
      const of = policies.filter(({ spec: { podSelector } }) => selects(podSelector, metadata.labels ?? {}));
      const ports = of.flatMap(({ spec }) => spec.egress.flatMap((rule) => rule.ports.map(({ port }) => port)));
      return [metadata.name, { policies: of.length, ports: [...new Set(ports)] }];
    });
    const everybody = [53, 5353, 443, 6443];
    const controllers = { policies: 1, ports: [...everybody, 22, 2222] };
    expect(Object.fromEntries(out)).toEqual({
      'multi-platform-controller': controllers,
      'multi-platform-controller-uninstall': controllers,
      'multi-platform-controller-webhook': { policies: 1, ports: everybody },
    });
  });

  test("a certificate of the user's is mounted and trusted, and the webhook may write nothing", async () => {
    const values = VARIANTS["a certificate of the user's"] ?? {};
    const rendered = await helm.must(['template', 'mpc', CHART, '--dry-run=server'], values);
    const ofWebhook = objectsOf(rendered).filter(
      (object) => object.metadata.labels?.['app.kubernetes.io/component'] === 'webhook',
    );
    const text = (kind: string): string => JSON.stringify(ofWebhook.find((object) => object.kind === kind));
    expect(text('Deployment')).toContain('"volumes":[{"name":"certificate","secret":{"secretName":"tls"}}]');
    expect(text('Deployment')).toContain('"--certificate=files","--certificate-dir=/certificate"');
    expect(text('MutatingWebhookConfiguration')).toContain(`"caBundle":"${Buffer.from(CA).toString('base64')}"`);
    expect(text('ClusterRole')).toContain('"verbs":["get","list","watch"]');
    expect(ofWebhook.filter(({ kind }) => kind === 'Role' || kind === 'Secret')).toEqual([]);
  });

  describe('wrong values:', () => {
    let before: Set<string>;
    beforeAll(async () => {
      before = await everything(client);
    });

    test.each(WRONG)('%s', async (_what, values, message) => {
      const { code, stderr } = await install('mpc', NAMESPACE, values);
      expect(code).not.toBe(0);
      expect(stderr).toMatch(message);
    });

    test('nothing of all that was applied', async () => {
      expect(await everything(client)).toEqual(before);
    });
  });

  test('the certificate of cert-manager and that of the webhook change places, and neither stays behind', async () => {
    const at = ['--namespace', NAMESPACE];
    const secrets = async (): Promise<string[]> =>
      (await client.list(PATH.secrets(NAMESPACE))).items
        .map(({ metadata }) => metadata.name)
        .filter((name) => name.startsWith('multi-platform-controller'));
    const upgrade = (values: object): Promise<string> => helm.must(['upgrade', 'mpc', CHART, ...at], values);
    const certManager = { webhook: { certificate: 'cert-manager' } };
    /** As cert-manager does: it keeps the Secret of a Certificate that is gone. */
    const issue = async (): Promise<void> => {
      const certificate = `/apis/cert-manager.io/v1/namespaces/${NAMESPACE}/certificates/${OWN_SECRET}`;
      const { spec } = await client.get<KubeObject & { spec: { secretName: string } }>(certificate);
      const data = { 'tls.crt': '', 'tls.key': '' };
      const secret = { metadata: { name: spec.secretName }, type: 'kubernetes.io/tls', data };
      await client.create<Secret>(PATH.secrets(NAMESPACE), secret);
    };
    await helm.must(['install', 'mpc', CHART, ...at], certManager);
    await issue();
    expect(await secrets()).toEqual([CERT_MANAGER_SECRET]);

    await upgrade({ webhook: { certificate: 'self' } });
    expect(await secrets()).toEqual([OWN_SECRET]);

    await upgrade(certManager);
    await issue();
    expect(await secrets()).toEqual([CERT_MANAGER_SECRET]);

    await helm.must(['rollback', 'mpc', ...at]);
    expect(await secrets()).toEqual([OWN_SECRET]);

    // An old Pod of the webhook, a moment before its rights are gone.
    await upgrade({ webhook: { enabled: false } });
    await client.create(PATH.secrets(NAMESPACE), { metadata: { name: OWN_SECRET } });
    await upgrade(certManager);
    await issue();
    await uninstall('mpc');
    expect(await secrets()).toEqual([]);
  });
});

test('the list of hosts is not lost where it becomes the own of somebody else', async () => {
  const at = ['--namespace', NAMESPACE];
  const list = PATH.configMaps(NAMESPACE, 'host-config');
  const own = { existingConfigMap: true };
  await helm.must(['install', 'mpc', CHART, ...at], { hosts: [HOST] });
  const { data } = await client.get<ConfigMap>(list);
  expect(Object.keys(data ?? {})).toContain('host.a.address');

  const { code, stderr } = await helm.run(['upgrade', 'mpc', CHART, ...at], own);
  expect([code, stderr]).toEqual([1, expect.stringContaining('existingConfigMap: host-config is the chart')]);
  await client.patch(list, { metadata: { annotations: { 'helm.sh/resource-policy': 'keep' } } });
  for (let upgrades = 0; upgrades < 2; upgrades++) await helm.must(['upgrade', 'mpc', CHART, ...at], own);
  await uninstall('mpc');
  expect((await client.get<ConfigMap>(list)).data).toEqual(data);
  await client.delete(list);
});

/** Says of the Job before it what its controller would say. */
async function uninstall(release: string): Promise<void> {
  const uninstalling = helm.must(['uninstall', release, '--namespace', NAMESPACE]);
  const job = `/apis/batch/v1/namespaces/${NAMESPACE}/jobs/multi-platform-controller-uninstall`;
  await until('the hook', () => ignoreNotFound(client.get(job)));
  await finishJob(client, job);
  await uninstalling;
}

test('a cluster holds one installation: a second is refused, wherever it is, and leaves no trace', async () => {
  expect(await install('first', NAMESPACE, {})).toMatchObject({ code: 0 });
  const before = await everything(client);
  for (const namespace of ['second', NAMESPACE]) {
    const { code, stderr } = await install('other', namespace, {});
    expect(code).not.toBe(0);
    expect(stderr).toContain(`this cluster has an installation already: release "first" in namespace "${NAMESPACE}"`);
  }
  expect(await everything(client)).toEqual(before);
  await helm.must(['upgrade', 'first', CHART, '--namespace', NAMESPACE]);
  // Without hooks, since nothing here runs Jobs.
  await helm.must(['uninstall', 'first', '--namespace', NAMESPACE, '--no-hooks']);
  expect(await install('other', 'second', {})).toMatchObject({ code: 0 });
});

/** Only made so that it is deleted: by a hook that leaves nothing there. */
function isTakenAway({ metadata }: KubeObject): boolean {
  return metadata.annotations?.['helm.sh/hook-delete-policy'] === 'before-hook-creation,hook-succeeded';
}

/** The Pod that a workload would make, to be judged by the namespace's Pod Security Standard. */
function podOf(object: KubeObject): KubeObject[] {
  if (object.kind !== 'Deployment' && object.kind !== 'Job') return [];
  const { template } = (object as KubeObject & { spec: { template: KubeObject & { spec: object } } }).spec;
  const { name, namespace = NAMESPACE } = object.metadata;
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...template.metadata, name, namespace },
    spec: template.spec,
  };
  return [pod];
}

interface PodSelector {
  matchLabels: Record<string, string>;
  matchExpressions: { key: string; operator: 'In'; values: string[] }[];
}

interface NetworkPolicy extends KubeObject {
  spec: { podSelector: PodSelector; egress: { ports: { port: number }[] }[] };
}

function selects({ matchLabels, matchExpressions }: PodSelector, labels: Readonly<Record<string, string>>): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, values }) => values.includes(labels[key] ?? ''))
  );
}
