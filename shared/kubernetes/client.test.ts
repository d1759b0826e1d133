import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { AppError } from '../errors.ts';
import { KubeClient, type KubeClientOptions } from './client.ts';
import { isConflict, isGone, isInvalid, isNotFound, KubeError } from './errors.ts';
import { StandInApiServer } from './testing.ts';

let server: StandInApiServer;
const clients: KubeClient[] = [];

beforeEach(async () => {
  server = await StandInApiServer.start();
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.stop();
  vi.useRealTimers();
});

function connect(options: Partial<KubeClientOptions> = {}): KubeClient {
  const client = new KubeClient({ config: server.config, ...options });
  clients.push(client);
  return client;
}

const OBJECT = { metadata: { name: 'a' } };

test.each<[string, (client: KubeClient) => Promise<unknown>, string, string | undefined, unknown]>([
  ['get', async (client) => await client.get('/x/a'), 'GET /x/a?', undefined, undefined],
  [
    'list',
    async (client) => await client.list('/x', { limit: 5, continue: undefined, labelSelector: 'a in (b,c)' }),
    'GET /x?limit=5&labelSelector=a+in+%28b%2Cc%29',
    undefined,
    undefined,
  ],
  ['create', async (client) => await client.create('/x', OBJECT), 'POST /x?', 'application/json', OBJECT],
  [
    'create, dry',
    async (client) => await client.create('/x', OBJECT, { dryRun: 'All' }),
    'POST /x?dryRun=All',
    'application/json',
    OBJECT,
  ],
  ['replace', async (client) => await client.replace('/x/a', OBJECT), 'PUT /x/a?', 'application/json', OBJECT],
  [
    'patch',
    async (client) => await client.patch('/x/a', { b: null }),
    'PATCH /x/a?',
    'application/merge-patch+json',
    { b: null },
  ],
  [
    'json patch',
    async (client) => await client.patch('/x/a', [{ op: 'test' }], 'json'),
    'PATCH /x/a?',
    'application/json-patch+json',
    [{ op: 'test' }],
  ],
  [
    'delete',
    async (client) => await client.delete('/x/a', { uid: 'u' }),
    'DELETE /x/a?',
    'application/json',
    { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid: 'u' } },
  ],
  [
    'delete that is only tried',
    async (client) => await client.delete('/x/a', undefined, { dryRun: true }),
    'DELETE /x/a?',
    'application/json',
    { apiVersion: 'v1', kind: 'DeleteOptions', dryRun: ['All'] },
  ],
])('%s', async (_what, call, line, type, body) => {
  server.onRequest = () => ({ body: { answer: 'ü' } });
  await expect(call(connect({ userAgent: 'tester' }))).resolves.toEqual({ answer: 'ü' });
  const [request] = server.requests;
  expect(`${request?.method} ${request?.path}?${request?.query.toString()}`).toBe(line);
  expect(request?.headers['content-type']).toBe(type);
  expect(request?.body === '' ? undefined : JSON.parse(request?.body ?? '')).toEqual(body);
  expect(request?.headers['user-agent']).toBe('tester');
  expect(request?.headers.authorization).toBe('Bearer not-secret');
});

describe('a refusal', () => {
  test.each([
    [404, isNotFound],
    [409, isConflict],
    [410, isGone],
    [422, isInvalid],
    [400, isInvalid],
  ])('with status %i is told by its own test, and says what the server said', async (status, isIt) => {
    server.onRequest = () => ({ status, body: { kind: 'Status', reason: 'Why', message: 'because', code: status } });
    const error: unknown = await connect()
      .get('/x/a')
      .catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(KubeError);
    expect(isIt(error)).toBe(true);
    expect([isNotFound, isConflict, isGone, isInvalid].filter((test_) => test_(error))).toHaveLength(1);
    expect(error).toMatchObject({ code: 'kubernetes.Why', message: 'GET /x/a: because', status });
  });

  test('that is no JSON is cut short', async () => {
    server.onRequest = () => ({ status: 502, body: '<html>'.repeat(1000) });
    const error: unknown = await connect()
      .get('/x')
      .catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'kubernetes.502', status: 502 });
    expect(String(error).length).toBeLessThan(300);
  });

  test('for too many requests is obeyed: the same is sent again after what the server says, five times in all', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'], shouldAdvanceTime: true });
    server.onRequest = () => ({ status: 429, body: {}, headers: { 'retry-after': '2' } });
    const failed = connect()
      .create('/x', OBJECT)
      .catch((caught: unknown) => caught);
    await vi.waitFor(() => expect(server.requests).toHaveLength(1));
    await vi.advanceTimersByTimeAsync(1500);
    expect(server.requests).toHaveLength(1);
    for (let second = 0; second < 10; second++) {
      await vi.advanceTimersByTimeAsync(1000);
      await vi.waitFor(() => expect(server.requests.length).toBeGreaterThan(0));
    }
    await expect(failed).resolves.toMatchObject({ status: 429 });
    expect(server.requests).toHaveLength(5);
  });

  test('of the token is tried once more with a new one', async () => {
    server.onRequest = () => ({ status: 401, body: {} });
    await expect(connect().get('/x')).rejects.toMatchObject({ status: 401 });
    expect(server.requests).toHaveLength(2);
  });
});

describe('no answer', () => {
  test('in time is an error that is no refusal, and the connection is given up', async () => {
    server.onRequest = async () => await new Promise<never>(() => {});
    const error: unknown = await connect({ timeoutMs: 50 })
      .create('/x', OBJECT)
      .catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(AppError);
    expect(error).not.toBeInstanceOf(KubeError);
    expect(error).toMatchObject({ code: 'kubernetes.unreachable' });
    await vi.waitFor(async () => expect(await server.connections).toBe(0));
  });

  test('since nobody listens is the same error', async () => {
    const client = connect();
    await server.stop();
    await expect(client.get('/x')).rejects.toMatchObject({ code: 'kubernetes.unreachable' });
    server = await StandInApiServer.start();
  });
});

describe('who may not write any more', () => {
  test('sends nothing but reads', async () => {
    const client = connect({
      beforeWrite: () => {
        throw new AppError('leader.lost', 'lost');
      },
    });
    for (const write of [
      async () => await client.create('/x', OBJECT),
      async () => await client.replace('/x/a', OBJECT),
      async () => await client.patch('/x/a', {}),
      async () => await client.delete('/x/a'),
    ])
      await expect(write()).rejects.toMatchObject({ code: 'leader.lost' });
    expect(server.requests).toEqual([]);
    await expect(client.get('/x/a')).resolves.toEqual({});
  });

  test('is asked again before a write is repeated', async () => {
    let asked = 0;
    server.onRequest = () => ({ status: 429, body: {}, headers: { 'retry-after': '0' } });
    const client = connect({
      beforeWrite: () => {
        if (++asked > 1) throw new AppError('leader.lost', 'lost');
      },
    });
    await expect(client.create('/x', OBJECT)).rejects.toMatchObject({ code: 'leader.lost' });
    expect(server.requests).toHaveLength(1);
  });
});

test('connections are kept, and each request is reported', async () => {
  const reported: [string, number][] = [];
  const client = connect({ onRequest: ({ method, status }) => reported.push([method, status]) });
  for (let request = 0; request < 5; request++) await client.get('/x');
  expect(await server.connections).toBe(1);
  server.onRequest = () => ({ status: 404, body: {} });
  await client.get('/x').catch(() => undefined);
  expect(reported).toEqual([...Array.from({ length: 5 }, () => ['GET', 200]), ['GET', 404]]);
});
