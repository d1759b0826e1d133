import { once } from 'node:events';
import https from 'node:https';
import { text } from 'node:stream/consumers';
import tls from 'node:tls';

import { Registry } from 'prom-client';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { createLog } from '#shared/log.ts';
import { issuePair } from './certificate.ts';
import { createWebhookMetrics } from './metrics.ts';
import { createWebhookServer, type WebhookServer } from './server.ts';

const validity = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 3_600_000) };
const [first, second] = await Promise.all([
  issuePair({ names: ['127.0.0.1'], ...validity }),
  issuePair({ names: ['127.0.0.1'], ...validity }),
]);

let registry: Registry;
let server: WebhookServer;
let agents: https.Agent[];

beforeEach(() => {
  registry = new Registry();
  server = createWebhookServer({
    metrics: createWebhookMetrics(registry),
    log: createLog({ level: 'error', destination: { write: () => {} } }),
  });
  agents = [];
});
afterEach(async () => {
  for (const agent of agents) agent.destroy();
  await server.close();
});

const TASK_RUN = { metadata: {}, spec: { params: [{ name: 'PLATFORM', value: 'linux/arm64' }] } };

function review(object: unknown = TASK_RUN): string {
  return JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: 'u-1',
      operation: 'CREATE',
      resource: { group: 'tekton.dev', version: 'v1', resource: 'taskruns' },
      object,
    },
  });
}

async function inject(
  payload: string | Buffer,
  contentType = 'application/json',
): Promise<{ status: number; body: string }> {
  const response = await server.app.inject({
    method: 'POST',
    url: '/mutate',
    payload,
    headers: { 'content-type': contentType },
  });
  return { status: response.statusCode, body: response.body };
}

describe('a body that is no AdmissionReview gets a 4xx that says why', () => {
  const depthBomb = '['.repeat(2_000_000);
  test.each<[string, string | Buffer, string | undefined, number, string]>([
    ['another content type', review(), 'text/plain', 415, 'Media Type'],
    ['no JSON', 'hello', undefined, 400, 'not JSON'],
    ['JSON that was cut off', review().slice(0, -20), undefined, 400, 'not JSON'],
    ['an empty body', '', undefined, 400, 'not JSON'],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x00]), undefined, 400, 'not JSON'],
    ['brackets without end', depthBomb, undefined, 400, 'not JSON'],
    ['brackets two million deep', depthBomb + ']'.repeat(2_000_000), undefined, 400, 'not an AdmissionReview'],
    ['another kind', '{"apiVersion":"v1","kind":"Pod"}', undefined, 400, 'apiVersion'],
    ['no uid', review().replace('"uid":"u-1",', ''), undefined, 400, 'uid'],
    ['8 MiB and a byte', ' '.repeat(8 * 1024 * 1024 + 1), undefined, 413, 'too large'],
  ])('%s', async (_what, payload, contentType, status, message) => {
    const response = await inject(payload, contentType);
    expect(response.status).toBe(status);
    expect(JSON.parse(response.body)).toEqual({ error: expect.stringContaining(message) });
  });

  test('another path', async () => {
    expect((await server.app.inject({ method: 'POST', url: '/', payload: {} })).statusCode).toBe(404);
  });
});

describe('hostile objects in a good review are answered, and change nothing but themselves', () => {
  test('keys that reach for prototypes', async () => {
    const object = JSON.stringify(TASK_RUN).replace(
      '{',
      '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},',
    );
    const { status, body } = await inject(review().replace(JSON.stringify(TASK_RUN), object));
    expect(status).toBe(200);
    expect(JSON.parse(body).response).toMatchObject({ uid: 'u-1', allowed: true, patchType: 'JSONPatch' });
    expect({}).not.toHaveProperty('polluted');
  });

  test('a value a million levels deep', async () => {
    const deep = '{"a":'.repeat(1_000_000) + '1' + '}'.repeat(1_000_000);
    const { status, body } = await inject(review().replace('"spec":{', `"status":${deep},"spec":{`));
    expect(status).toBe(200);
    expect(JSON.parse(body).response.patchType).toBe('JSONPatch');
  });

  test('8 MiB to the byte', async () => {
    const padded = review().replace('"metadata":{}', `"metadata":{"annotations":{"a":"?"}}`);
    const { status } = await inject(padded.replace('?', 'x'.repeat(8 * 1024 * 1024 - padded.length + 1)));
    expect(status).toBe(200);
  });
});

test('requests are counted by outcome', async () => {
  await inject(review());
  await inject(review({ metadata: {}, spec: { params: [{ name: 'PLATFORM', value: 'ARM' }] } }));
  await inject(review({ metadata: {}, spec: {} }));
  await inject('no JSON');
  const metric = await registry.getSingleMetric('multi_platform_controller_webhook_requests_total')?.get();
  expect(metric?.values.map(({ labels, value }) => [labels.outcome, value])).toEqual([
    ['marked', 1],
    ['malformed', 1],
    ['skipped', 1],
    ['refused', 1],
    ['failed', 0],
  ]);
});

describe('over TLS', () => {
  let port: number;
  beforeEach(async () => {
    port = await server.listen(0);
  });

  function agent(ca: string): https.Agent {
    const created = new https.Agent({ keepAlive: true, maxSockets: 1, ca });
    agents.push(created);
    return created;
  }

  async function post(
    through: https.Agent,
  ): Promise<{ status: number | undefined; connection: string | undefined; socket: unknown }> {
    const request = https.request({ host: '127.0.0.1', port, path: '/mutate', method: 'POST', agent: through });
    request.setHeader('content-type', 'application/json');
    request.end(review());
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- once() gives the event's arguments
    const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
    const { socket } = response;
    await text(response);
    return { status: response.statusCode, connection: response.headers.connection, socket };
  }

  test('without a certificate each handshake is refused, and the server lives', async () => {
    await expect(post(agent(first.ca))).rejects.toThrow(/handshake/);
    server.serve(first);
    expect(await post(agent(first.ca))).toMatchObject({ status: 200 });
  });

  test('a new certificate is for new connections; those that stand go on', async () => {
    server.serve(first);
    const standing = agent(first.ca);
    const before = await post(standing);
    server.serve(second);
    const after = await post(standing);
    expect(after.status).toBe(200);
    expect(after.socket).toBe(before.socket);
    expect(await post(agent(second.ca))).toMatchObject({ status: 200 });
    await expect(post(agent(first.ca))).rejects.toThrow(/certificate|signature/);
  });

  test.each(['TLSv1', 'TLSv1.1'] as const)('%s is refused', async (version) => {
    server.serve(first);
    const options = { host: '127.0.0.1', port, ca: first.ca, minVersion: 'TLSv1', maxVersion: version } as const;
    const socket = tls.connect({ ...options, ciphers: 'DEFAULT:@SECLEVEL=0' });
    await expect(once(socket, 'secureConnect')).rejects.toThrow(/alert|version|protocol/i);
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('%s is spoken', async (version) => {
    server.serve(first);
    const socket = tls.connect({ host: '127.0.0.1', port, ca: first.ca, minVersion: version, maxVersion: version });
    await once(socket, 'secureConnect');
    expect(socket.getProtocol()).toBe(version);
    socket.destroy();
  });

  test('while it drains, answers go on and ask the client to connect elsewhere', async () => {
    server.serve(first);
    expect((await post(agent(first.ca))).connection).toBe('keep-alive');
    server.drain();
    expect(await post(agent(first.ca))).toMatchObject({ status: 200, connection: 'close' });
  });

  test('what is in flight when it closes is still answered', async () => {
    server.serve(first);
    const request = https.request({ host: '127.0.0.1', port, path: '/mutate', method: 'POST', agent: agent(first.ca) });
    request.setHeader('content-type', 'application/json');
    const body = review();
    request.setHeader('content-length', body.length);
    request.write(body.slice(0, 10));
    await once(server.app.server, 'request');
    const closed = server.close();
    request.end(body.slice(10));
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- once() gives the event's arguments
    const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
    expect(response.statusCode).toBe(200);
    expect(JSON.parse(await text(response)).response.uid).toBe('u-1');
    await closed;
  });
});
