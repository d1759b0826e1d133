import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { KubeConfig } from '@kubernetes/client-node';
import { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound, KubeError } from '#shared/kubernetes/errors.ts';
import type { Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { DEFAULT_NAMESPACE } from '#shared/names.ts';
import { type CertificatePair, issuePair, parseCertificates } from '#webhook/certificate.ts';
import { buildRegistration, type MutatingWebhookConfiguration } from '#webhook/registration.ts';
import {
  CONFIGURATION,
  CONFIGURATIONS,
  type Replica,
  SECRET_NAME,
  ShiftedClock,
  startReplica,
  startServiceStandIn,
  startWebhookCluster,
  type TaskRun,
  taskRun,
  TENANT,
  until,
  type WebhookCluster,
} from './support/webhook-cluster.ts';
import { isMarked } from './support/webhook-requests.ts';

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
const SECRET = PATH.secrets(DEFAULT_NAMESPACE, SECRET_NAME);

let cluster: WebhookCluster;
let clock: ShiftedClock;
let replicas: Replica[];
/** What all replicas logged. */
const logs: string[] = [];
let service: Awaited<ReturnType<typeof startServiceStandIn>>;

beforeAll(async () => {
  cluster = await startWebhookCluster();
}, 120_000);

afterAll(async () => {
  await cluster.stop();
});

/** Three replicas at the same instant on a cluster that knows nothing of them yet. */
async function startAll(offsetMs = 0): Promise<void> {
  clock = new ShiftedClock(offsetMs);
  replicas = await Promise.all([1, 2, 3].map(() => startReplica(cluster, clock)));
}

beforeEach(async () => {
  replicas = [];
  service = await startServiceStandIn(() => replicas);
  // With Fail, so that an admission that did not reach us shows.
  await cluster.client.create(CONFIGURATIONS, buildRegistration({ server: service, failurePolicy: 'Fail' }));
});

afterEach(async () => {
  logs.push(...replicas.flatMap(({ log }) => log));
  await Promise.all(replicas.map((replica) => replica.stop()));
  await service.stop();
  await cluster.client.delete(CONFIGURATION);
  await ignoreNotFound(cluster.client.delete(SECRET));
});

function untilAllReady(): Promise<void> {
  return until('all replicas are ready', () => replicas.every((replica) => replica.notReady() === null));
}

async function readSecret(): Promise<Record<string, string>> {
  const { data = {} } = (await ignoreNotFound(cluster.client.get<Secret>(SECRET))) ?? {};
  return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]));
}

/** Fingerprints of the CAs in the Secret. */
async function casInSecret(): Promise<string[]> {
  return parseCertificates((await readSecret())['ca.crt'] ?? '').map(({ fingerprint256 }) => fingerprint256);
}

/** Fingerprints of the CAs that the API server trusts. */
async function casTrusted(): Promise<string[]> {
  const { webhooks } = await cluster.client.get<MutatingWebhookConfiguration>(CONFIGURATION);
  const bundle = Buffer.from(webhooks?.[0]?.clientConfig.caBundle ?? '', 'base64').toString();
  return parseCertificates(bundle).map(({ fingerprint256 }) => fingerprint256);
}

/** Fingerprints of the certificates that the replicas show to a new connection. */
function certificatesServed(): Promise<string[]> {
  return Promise.all(
    replicas.map(async ({ ports }) => {
      const socket = tls.connect({ host: '127.0.0.1', port: ports.webhook, rejectUnauthorized: false });
      await once(socket, 'secureConnect');
      const { fingerprint256 } = socket.getPeerCertificate();
      socket.destroy();
      return fingerprint256;
    }),
  );
}

async function admit(): Promise<void> {
  const { client } = cluster;
  const created = await client.create<TaskRun>(PATH.taskRuns(TENANT), taskRun('linux/arm64'), { dryRun: 'All' });
  expect(isMarked(created)).toBe(true);
}

/** Ten admissions a second while `run` goes on; how many failed. */
async function failuresDuring(run: () => Promise<void>): Promise<string[]> {
  const failures: string[] = [];
  const done = new AbortController();
  const load = (async () => {
    while (!done.signal.aborted) {
      await admit().catch((error: unknown) => failures.push(String(error)));
      await sleep(100);
    }
  })();
  try {
    await run();
  } finally {
    done.abort();
    await load;
  }
  await admit();
  return failures;
}

/** Until that many CAs are in the Secret, and the same in the configuration. */
async function untilTrustedCas(count: number): Promise<void> {
  await until(`${count} CAs are trusted`, async () => {
    const [wanted, trusted] = await Promise.all([casInSecret(), casTrusted()]);
    return trusted.length === count && trusted.join() === wanted.join();
  });
}

async function wipeCaBundle(): Promise<void> {
  await cluster.client.patch(CONFIGURATION, [{ op: 'remove', path: '/webhooks/0/clientConfig/caBundle' }], 'json');
}

/** How long it took, ms. */
async function untilTrusted(ca: string | undefined): Promise<number> {
  const startMs = performance.now();
  await until('the caBundle is back', async () => (await casTrusted()).some((trusted) => trusted === ca));
  return performance.now() - startMs;
}

async function corrupt(key: string, value: string): Promise<void> {
  await cluster.client.patch(SECRET, { data: { [key]: Buffer.from(value).toString('base64') } });
}

test('three replicas started at the same instant on an empty cluster make one CA and one certificate', async () => {
  await startAll();
  await untilAllReady();
  await admit();
  expect(await casInSecret()).toHaveLength(1);
  expect(await casTrusted()).toEqual(await casInSecret());
  expect(new Set(await certificatesServed()).size).toBe(1);
  const writes = replicas.flatMap(({ log }) => log).filter((line) => line.includes('wrote the certificate Secret'));
  expect(writes).toHaveLength(1);
}, 30_000);

describe('three replicas that serve', () => {
  beforeEach(async () => {
    await startAll(-61 * DAY_MS);
    await untilAllReady();
    await admit();
  }, 30_000);

  test('put a caBundle that was wiped back within a second', async () => {
    const trusted = await casTrusted();
    let tookMs = 0;
    const failures = await failuresDuring(async () => {
      await wipeCaBundle();
      tookMs = await untilTrusted(trusted[0]);
    });
    expect(await casTrusted()).toEqual(trusted);
    expect(tookMs).toBeLessThan(1000);
    expect(failures.length).toBeLessThanOrEqual(1);
  });

  test('come through the configuration being deleted and made anew', async () => {
    await cluster.client.delete(CONFIGURATION);
    await until('no replica is ready', () => replicas.every((replica) => replica.notReady() !== null));
    await cluster.client.create(CONFIGURATIONS, buildRegistration({ server: service, failurePolicy: 'Fail' }));
    const failures = await failuresDuring(untilAllReady);
    expect(failures.length).toBeLessThanOrEqual(1);
  });

  test('come back with the Secret deleted and the caBundle wiped, and so does one that starts only then', async () => {
    const [oldCa] = await casInSecret();
    let tookMs = 0;
    const failures = await failuresDuring(async () => {
      await cluster.client.delete(SECRET);
      await wipeCaBundle();
      tookMs = await untilTrusted(oldCa);
      const fresh = await startReplica(cluster, clock);
      replicas.push(fresh);
      await until('the new replica is ready', () => fresh.notReady() === null);
    });
    // Keys may be under way for the first event when the second comes.
    expect(tookMs).toBeLessThan(3000);
    expect(failures.length).toBeLessThanOrEqual(2);
    expect(await casInSecret()).toHaveLength(2);
  });

  test.each<[string, () => Promise<unknown>]>([
    ['the Secret is deleted', () => cluster.client.delete(SECRET)],
    ['the Secret is emptied', () => cluster.client.patch(SECRET, { data: null })],
    ['its certificate is spoilt', () => corrupt('tls.crt', 'spoilt')],
    ['its key is spoilt', () => corrupt('tls.key', 'spoilt')],
    ['its CA is spoilt', () => corrupt('ca.crt', 'spoilt')],
  ])('move to a new CA without losing an admission when %s', async (_what, event) => {
    const [oldCa] = await casInSecret();
    const [oldCertificate] = await certificatesServed();
    const failures = await failuresDuring(async () => {
      await event();
      await untilTrustedCas(2);
      expect(await casTrusted()).toContain(oldCa);
      expect(await certificatesServed()).toEqual([oldCertificate, oldCertificate, oldCertificate]);

      clock.advance(MINUTE_MS + 1000);
      await until('the new certificate is served', async () => {
        const served = new Set(await certificatesServed());
        return served.size === 1 && !served.has(oldCertificate ?? '');
      });

      clock.advance(60 * MINUTE_MS);
      await untilTrustedCas(1);
      expect(await casTrusted()).not.toContain(oldCa);
      await untilAllReady();
    });
    expect(failures).toEqual([]);
  });

  test('renew a certificate that has a third of its time left, without losing an admission', async () => {
    const [oldCa] = await casInSecret();
    const failures = await failuresDuring(async () => {
      clock.advance(61 * DAY_MS);
      await untilTrustedCas(2);
      clock.advance(MINUTE_MS + 1000);
      clock.advance(60 * MINUTE_MS);
      await untilTrustedCas(1);
      expect(await casTrusted()).not.toContain(oldCa);
      await untilAllReady();
    });
    expect(failures).toEqual([]);
  });

  test('are replaced one by one, as by a rollout, without losing an admission', async () => {
    const failures = await failuresDuring(async () => {
      const old = replicas;
      replicas = [...old];
      for (const replica of old) {
        const fresh = await startReplica(cluster, clock, { drainMs: 500 });
        await until('the new replica is ready', () => fresh.notReady() === null);
        replicas.push(fresh);
        await replica.stop();
        replicas = replicas.filter((running) => running !== replica);
      }
    });
    expect(failures).toEqual([]);
  }, 30_000);
});

describe('with the rights that the chart gives', () => {
  let client: KubeClient;
  beforeAll(() => {
    const config = new KubeConfig();
    config.loadFromFile(cluster.webhookKubeconfig);
    client = new KubeClient({ config });
  });
  afterAll(() => client.close());
  const make = (name: string, type = 'Opaque'): Promise<number> => {
    const secret = { metadata: { name, annotations: { 'kubernetes.io/service-account.name': 'default' } }, type };
    return client.create<Secret>(PATH.secrets(DEFAULT_NAMESPACE), secret, { dryRun: 'All' }).then(
      () => 201,
      (error: unknown) => (error instanceof KubeError ? error.status : 0),
    );
  };

  test('its own Secret can be made, and no other', async () => {
    await ignoreNotFound(cluster.client.delete(SECRET));
    expect(await make(SECRET_NAME)).toBe(201);
    expect(await make('another')).toBe(403);
    expect(await make(SECRET_NAME, 'kubernetes.io/service-account-token')).toBe(403);
  });

  test('but without protection, what was lost cannot be made: it serves on, and goes on when somebody else makes it', async () => {
    await cluster.giveRights({ protection: { enabled: false } });
    try {
      await until('the right is gone', async () => (await make(SECRET_NAME)) === 403);
      await startAll();
      await untilAllReady();
      const [ca] = await casInSecret();
      const served = await certificatesServed();
      const failures = await failuresDuring(async () => {
        await cluster.client.delete(SECRET);
        const says = 'Secret cannot be written';
        await until('each says so', () => replicas.every(({ log }) => log.join('').includes(says)));
        await wipeCaBundle();
        expect(await untilTrusted(ca)).toBeLessThan(1000);
      });
      expect(failures.length).toBeLessThanOrEqual(1);
      expect(await certificatesServed()).toEqual(served);

      // As an upgrade of the chart makes it: empty.
      const lost = await failuresDuring(async () => {
        await cluster.giveRights({ protection: { enabled: false } });
        await untilTrustedCas(2);
      });
      expect(lost).toEqual([]);
    } finally {
      await cluster.giveRights({});
    }
  }, 30_000);
});

test('replicas whose certificate has ended make a new one at once when they notice', async () => {
  // A clock that is 91 days late issues what has ended for everybody else.
  await startAll(-91 * DAY_MS);
  await untilAllReady();
  await expect(admit()).rejects.toThrow(/certificate has expired/);
  clock.setOffset(0);
  await expect(admit().catch(() => {})).resolves.toBeUndefined();
  await untilAllReady();
  await admit();
  expect(await casInSecret()).toHaveLength(1);
}, 30_000);

test('a new installation that finds an old Secret makes the configuration trust it', async () => {
  await startAll();
  await untilAllReady();
  const before = await casInSecret();
  await Promise.all(replicas.map((replica) => replica.stop()));
  await cluster.client.delete(CONFIGURATION);
  await cluster.client.create(CONFIGURATIONS, buildRegistration({ server: service, failurePolicy: 'Fail' }));
  await startAll();
  await untilAllReady();
  await admit();
  expect(await casTrusted()).toEqual(before);
}, 30_000);

test('a certificate from files is served when the configuration trusts it, and the new one when the files change', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'webhook-files-'));
  const put = async (pair: CertificatePair): Promise<void> => {
    await writeFile(path.join(folder, 'tls.crt'), pair.certificate);
    await writeFile(path.join(folder, 'tls.key'), pair.privateKey);
  };
  /** As cert-manager would, or who owns the files. */
  const trust = async (...pairs: CertificatePair[]): Promise<void> => {
    const value = Buffer.from(pairs.map(({ ca }) => ca).join('')).toString('base64');
    const patch = [{ op: 'add', path: '/webhooks/0/clientConfig/caBundle', value }];
    await cluster.client.patch(CONFIGURATION, patch, 'json');
  };
  const validity = { notBefore: new Date(Date.now() - MINUTE_MS), notAfter: new Date(Date.now() + DAY_MS) };
  const [first, second] = await Promise.all([
    issuePair({ names: ['127.0.0.1'], ...validity }),
    issuePair({ names: ['127.0.0.1'], ...validity }),
  ]);
  try {
    await put(first);
    clock = new ShiftedClock();
    replicas = [await startReplica(cluster, clock, { folder })];
    const [replica] = replicas;
    await until('the certificate is read', () => replica?.notReady()?.includes('caBundle holds no') ?? false);
    await trust(first);
    await untilAllReady();
    await admit();

    await trust(second, first);
    const failures = await failuresDuring(async () => {
      const [before] = await certificatesServed();
      await put(second);
      clock.advance(MINUTE_MS);
      await until('the new certificate is served', async () => (await certificatesServed())[0] !== before);
    });
    expect(failures).toEqual([]);
    await trust(second);
    await until('it is ready', () => replica?.notReady() === null);
    await admit();
    expect(await readSecret()).toEqual({});
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('none of all these replicas wrote a key into its log', () => {
  expect(logs.length).toBeGreaterThan(100);
  expect(logs.join('')).not.toMatch(/PRIVATE KEY|LS0tLS1CRUdJTi/);
});
