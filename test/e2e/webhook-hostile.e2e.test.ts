import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import https from 'node:https';
import type { IncomingMessage } from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '#sandbox/control-plane/free-port.ts';
import { createManagedProcess, type ManagedProcess } from '#sandbox/managed-process.ts';
import { type CertificatePair, issuePair } from '#webhook/certificate.ts';
import { buildRegistration } from '#webhook/registration.ts';
import { CONFIGURATIONS, startWebhookCluster, until, type WebhookCluster } from './support/webhook-cluster.ts';

const MAIN = fileURLToPath(new URL('../../webhook/main.ts', import.meta.url));
const REVIEWS = 20_000;
const BATCH = 20;

/** A leak of 100 bytes in each review would be more. */
const LEAK_BYTES = 1_000_000;

/** All time limits of the server, with some room for a busy machine. */
const CLOSED_WITHIN_MS = 15_000;

let cluster: WebhookCluster;
let webhook: ManagedProcess;
let pair: CertificatePair;
let folder: string;
let port: number;
let inspectPort: number;
let agent: https.Agent;

beforeAll(async () => {
  cluster = await startWebhookCluster();
  folder = await mkdtemp(path.join(tmpdir(), 'webhook-hostile-'));
  port = await freePort();
  inspectPort = await freePort();
  pair = await issuePair({
    names: ['127.0.0.1'],
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
  });
  await writeFile(path.join(folder, 'tls.crt'), pair.certificate);
  await writeFile(path.join(folder, 'tls.key'), pair.privateKey);
  const registration = buildRegistration({ server: { url: `https://127.0.0.1:${port}` } });
  for (const { clientConfig } of registration.webhooks ?? []) {
    clientConfig.caBundle = Buffer.from(pair.ca).toString('base64');
  }
  await cluster.client.create(CONFIGURATIONS, registration);
  const certificate = ['--certificate', 'files', '--certificate-dir', folder];
  webhook = await createManagedProcess({
    name: 'webhook',
    main: MAIN,
    args: ['--kubeconfig', cluster.webhookKubeconfig, '--drain', '0s', '--port', `${port}`, ...certificate],
    // Only so can a test tell garbage from a leak.
    env: { NODE_OPTIONS: `--inspect=127.0.0.1:${inspectPort}` },
    logPath: path.join(folder, 'webhook.log'),
  });
  await webhook.start();
  agent = new https.Agent({ keepAlive: true, maxSockets: 8, ca: pair.ca });
});

afterAll(async () => {
  agent.destroy();
  await webhook.kill();
  await cluster.stop();
  await rm(folder, { recursive: true });
});

async function post(
  body: string | Buffer,
  contentType = 'application/json',
  through = agent,
): Promise<{ status: number; body: string }> {
  const headers = { 'content-type': contentType, 'content-length': Buffer.byteLength(body) };
  const request = https.request({ host: '127.0.0.1', port, path: '/mutate', method: 'POST', agent: through, headers });
  // Where the answer comes first, the rest of the body meets a closed connection.
  request.on('error', () => {});
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return { status: response.statusCode ?? 0, body: await text(response) };
}

function review(object: unknown, uid: unknown = 'u'): Record<string, unknown> {
  const resource = { group: 'tekton.dev', version: 'v1', resource: 'taskruns' };
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: { uid, operation: 'CREATE', resource, object },
  };
}

const GOOD = JSON.stringify(review({ metadata: {}, spec: { params: [{ name: 'PLATFORM', value: 'linux/arm64' }] } }));

/** What the process holds when all garbage is gone, by the inspector's protocol. */
async function liveBytes(): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${inspectPort}/json`);
  const [target] = (await response.json()) as { webSocketDebuggerUrl: string }[];
  const socket = new WebSocket(target?.webSocketDebuggerUrl ?? '');
  await once(socket, 'open');
  const call = async (method: string): Promise<Record<string, number>> => {
    socket.send(JSON.stringify({ id: 1, method }));
    const [event] = (await once(socket, 'message')) as [{ data: string }];
    return JSON.parse(event.data).result;
  };
  await call('HeapProfiler.collectGarbage');
  const { usedSize = 0, embedderHeapUsedSize = 0, backingStorageSize = 0 } = await call('Runtime.getHeapUsage');
  socket.close();
  return usedSize + embedderHeapUsedSize + backingStorageSize;
}

async function residentBytes(): Promise<number> {
  const [, pages] = (await readFile(`/proc/${webhook.pid}/statm`, 'utf8')).split(' ');
  return Number(pages) * 4096;
}

/** True for an AdmissionReview v1 that answers the one in `sent`, with a patch that has the shape of one. */
function answers(sent: string | Buffer, received: string): boolean {
  const { apiVersion, kind, response } = JSON.parse(received);
  const { uid, allowed, patchType, patch } = response;
  if (apiVersion !== 'admission.k8s.io/v1' || kind !== 'AdmissionReview' || allowed !== true) return false;
  if (uid !== JSON.parse(String(sent)).request.uid) return false;
  if (patch === undefined) return patchType === undefined;
  const operations: unknown = JSON.parse(Buffer.from(patch, 'base64').toString());
  const isOperation = ({ op, path: at }: { op: string; path: string }): boolean =>
    (op === 'add' || op === 'remove') && at.startsWith('/metadata/');
  return patchType === 'JSONPatch' && Array.isArray(operations) && operations.every(isOperation);
}

function isRefusal(status: number, received: string): boolean {
  return status >= 400 && status < 500 && typeof JSON.parse(received).error === 'string';
}

const key = fc.oneof(
  fc.constantFrom('__proto__', 'constructor', 'labels', 'build.appstudio.redhat.com/assigned-host'),
  fc.string(),
);
const map = fc.oneof(fc.dictionary(key, fc.oneof(fc.string(), fc.jsonValue()), { maxKeys: 5 }), fc.jsonValue());
const param = fc.record({
  name: fc.constantFrom('PLATFORM', 'IMAGE'),
  value: fc.oneof(fc.constantFrom('linux/arm64', 'local', '$(params.x)'), fc.string(), fc.jsonValue()),
});
const object = fc.oneof(
  fc.record(
    {
      metadata: fc.record({ labels: map, annotations: map, finalizers: fc.jsonValue() }, { requiredKeys: [] }),
      spec: fc.record({ params: fc.array(fc.oneof(param, fc.jsonValue()), { maxLength: 4 }) }),
    },
    { requiredKeys: [] },
  ),
  fc.jsonValue(),
);
const wellFormed = fc
  .tuple(object, fc.string({ minLength: 1, maxLength: 40 }))
  .map(([value, uid]) => JSON.stringify(review(value, uid)));
const body: fc.Arbitrary<string | Buffer> = fc.oneof(
  { weight: 10, arbitrary: wellFormed },
  { weight: 2, arbitrary: fc.tuple(object, fc.jsonValue()).map(([value, uid]) => JSON.stringify(review(value, uid))) },
  { weight: 2, arbitrary: fc.tuple(wellFormed, fc.nat(200)).map(([whole, cut]) => whole.slice(0, -cut)) },
  {
    weight: 2,
    arbitrary: fc.tuple(wellFormed, fc.nat(), fc.nat(255)).map(([whole, at, byte]) => {
      const bytes = Buffer.from(whole);
      bytes[at % bytes.length] = byte;
      return bytes;
    }),
  },
  { weight: 1, arbitrary: fc.json() },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 500 }).map((bytes) => Buffer.from(bytes)) },
  { weight: 1, arbitrary: fc.nat(20_000).map((depth) => `{"a":${'['.repeat(depth)}`) },
);
const contentType = fc.oneof(
  { weight: 9, arbitrary: fc.constant('application/json') },
  {
    weight: 1,
    arbitrary: fc.constantFrom('text/plain', 'application/json; charset=utf-8', 'application/yaml', '', ';'),
  },
);

test('20,000 reviews, good, odd and broken: each is answered with an AdmissionReview or a 4xx, and memory stays flat', async () => {
  const statuses = new Map<number, number>();
  let sent = 0;
  let warmBytes = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(body, contentType), { minLength: BATCH, maxLength: BATCH }), async (batch) => {
      const responses = await Promise.all(batch.map(([payload, type]) => post(payload, type)));
      for (const [index, { status, body: received }] of responses.entries()) {
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
        const good = status === 200 ? answers(batch[index]?.[0] ?? '', received) : isRefusal(status, received);
        expect([good, status, received]).toEqual([true, status, received]);
      }
      sent += batch.length;
      if (sent === REVIEWS / 4) warmBytes = await liveBytes();
    }),
    { numRuns: REVIEWS / BATCH, endOnFailure: true },
  );
  expect(sent).toBe(REVIEWS);
  expect(statuses.get(200)).toBeGreaterThan(REVIEWS / 4);
  expect(statuses.get(400)).toBeGreaterThan(REVIEWS / 20);
  expect(statuses.get(415)).toBeGreaterThan(REVIEWS / 100);
  expect(warmBytes).toBeGreaterThan(0);
  expect((await liveBytes()) - warmBytes).toBeLessThan(LEAK_BYTES);
}, 180_000);

test('bodies of 8 MiB, one after the other and eight at once, do not stay in memory', async () => {
  const padding = 'x'.repeat(8 * 1024 * 1024 - 1000);
  const large = JSON.stringify(review({ metadata: { annotations: { padding } }, spec: {} }));
  const before = await liveBytes();
  for (let round = 0; round < 5; round++) {
    const responses = await Promise.all(Array.from({ length: 8 }, () => post(large)));
    expect(responses.map(({ status }) => status)).toEqual(Array.from({ length: 8 }, () => 200));
  }
  expect((await liveBytes()) - before).toBeLessThan(LEAK_BYTES);
});

test('a body of more than 8 MiB gets a 413, or a closed connection where the client goes on sending', async () => {
  const answer = post(' '.repeat(8 * 1024 * 1024 + 1)).then(({ status }) => status);
  const closed = (error: NodeJS.ErrnoException): number =>
    ['EPIPE', 'ECONNRESET'].includes(error.code ?? '') ? 413 : 0;
  expect(await answer.catch(closed)).toBe(413);
});

describe('clients that hold connections', () => {
  /** Resolves when the server has closed them all; rejects when it takes too long. */
  async function allClosed(sockets: readonly net.Socket[]): Promise<void> {
    // Where its queue is full the kernel forgets a connection without a word; only who sends learns of it.
    const poke = setTimeout(() => {
      for (const socket of sockets) if (socket.writable) socket.write('\0');
    }, CLOSED_WITHIN_MS / 2);
    try {
      const open = (): number => sockets.filter((socket) => !socket.destroyed).length;
      await until('all connections are closed', () => open() === 0, CLOSED_WITHIN_MS);
    } finally {
      clearTimeout(poke);
    }
  }

  function quiet<T extends net.Socket>(socket: T): T {
    socket.on('error', () => {});
    socket.resume();
    return socket;
  }

  async function secure(): Promise<tls.TLSSocket> {
    const socket = quiet(tls.connect({ host: '127.0.0.1', port, ca: pair.ca }));
    await once(socket, 'secureConnect');
    return socket;
  }

  test('three thousand that say nothing are closed; a client that was there before does not notice', async () => {
    expect((await post(GOOD)).status).toBe(200);
    const before = await residentBytes();
    const silent = Array.from({ length: 3000 }, () => quiet(net.connect(port, '127.0.0.1')));
    const done = new AbortController();
    const load = (async () => {
      let answered = 0;
      for (; !done.signal.aborted; answered++) {
        expect((await post(GOOD)).status).toBe(200);
        await sleep(100);
      }
      return answered;
    })();
    await allClosed(silent).finally(() => done.abort());
    expect(await load).toBeGreaterThan(10);
    expect((await residentBytes()) - before).toBeLessThan(100 * 1024 * 1024);
    const fresh = new https.Agent({ ca: pair.ca });
    expect((await post(GOOD, 'application/json', fresh)).status).toBe(200);
  });

  test('those that speak something else, or TLS and then nothing, half a header or a body byte by byte, are closed', async () => {
    const others = ['GET / HTTP/1.1\r\n\r\n', '\u0016\u0003\u0001', 'SSH-2.0-x\r\n', '\0'.repeat(10_000)].map(
      (hello) => {
        const socket = quiet(net.connect(port, '127.0.0.1'));
        socket.write(hello);
        return socket;
      },
    );
    const idle = await Promise.all(Array.from({ length: 20 }, secure));
    const halfHeader = await Promise.all(Array.from({ length: 20 }, secure));
    const slowBody = await Promise.all(Array.from({ length: 20 }, secure));
    for (const socket of halfHeader) socket.write('POST /mutate HTTP/1.1\r\nHost: x\r\nX-');
    for (const socket of slowBody) {
      socket.write(
        'POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n',
      );
    }
    const drip = setInterval(() => {
      for (const socket of [...halfHeader, ...slowBody]) if (socket.writable) socket.write('a');
    }, 250);
    try {
      await allClosed([...others, ...idle, ...halfHeader, ...slowBody]);
    } finally {
      clearInterval(drip);
    }
    expect((await post(GOOD)).status).toBe(200);
  });
});

test('it is still the same process, and said nothing of an error', async () => {
  const log = await webhook.log();
  expect(log.match(/"msg":"listening"/g)).toHaveLength(1);
  expect(log).not.toContain('"level":"error"');
});
