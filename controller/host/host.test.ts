import { Writable } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { createLog } from '#shared/log.ts';
import { ADMIN_KEY, errorOf } from './connection-test-setup.ts';
import { HOST_ERROR, type HostOperations } from './contract.ts';
import { type OperationReport, createHostOperations } from './host.ts';
import { generateKeyPair } from './keys.ts';
import { type Request, createSteppedClock, startStandInSshServer } from './stand-in-ssh-server.ts';

const ACCOUNT = `u-${'0123456789abcdef'.repeat(2).slice(0, 28)}`;
const { publicKey } = await generateKeyPair('ed25519');
const REQUEST = {
  account: ACCOUNT,
  taskRunUid: '6f1c6e8e-2f0c-4f0e-9d43-3a1f3c1c7b1a',
  publicKey,
  expiresAtMs: 1_800_000_000_500,
  limits: {},
};

const toStop: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of toStop.splice(0).toReversed()) await stop();
});

interface Setting {
  readonly operations: HostOperations;
  readonly requests: Request[];
  readonly reports: OperationReport[];
  readonly log: string[];
}

async function setUp(onRequest: (request: Request, step: (ms: number) => void) => void): Promise<Setting> {
  const clock = createSteppedClock();
  const requests: Request[] = [];
  const server = await startStandInSshServer({
    onRequest: (request) => {
      requests.push(request);
      onRequest(request, (ms) => clock.step(ms));
    },
  });
  const reports: OperationReport[] = [];
  const log: string[] = [];
  const destination = new Writable({
    write: (line, _, done) => {
      log.push(String(line));
      done();
    },
  });
  const operations = createHostOperations({
    endpoint: server.endpoint,
    adminKey: () => ADMIN_KEY.privateKey,
    policy: 'strict',
    instance: 'installation-1',
    onFirstKey: async () => await Promise.resolve(),
    onOperation: (report) => reports.push(report),
    clock,
    log: createLog({ level: 'debug', destination }),
  });
  toStop.push(
    async () => await server.stop(),
    () => operations.close(),
  );
  return { operations, requests, reports, log };
}

/** The assignments that stand before the script. */
function parametersOf(requests: readonly Request[]): Record<string, string> {
  const lines = requests.at(-1)?.script.split('\n') ?? [];
  const end = lines.findIndex((line) => line.startsWith('#'));
  const pairs = lines.slice(1, end).map((line) => /^(?<name>\w+)='(?<value>.*)'$/.exec(line)?.groups ?? {});
  return Object.fromEntries(pairs.map(({ name, value }) => [name, value]));
}

describe('making an account', () => {
  it('hands everything over, the expiry in seconds and rounded up', async () => {
    const { operations, requests } = await setUp(({ answer }) => answer({ ok: true, home: '/home/x' }));
    expect(await operations.createAccount(REQUEST)).toEqual({ home: '/home/x' });
    expect(parametersOf(requests)).toEqual({
      instance: 'installation-1',
      account: ACCOUNT,
      taskrun: REQUEST.taskRunUid,
      public_key: publicKey,
      expires: '1800000001',
      max_processes: '',
      cpu_minutes: '',
    });
  });

  it('gives limits in the units of limits.conf', async () => {
    const { operations, requests } = await setUp(({ answer }) => answer({ ok: true, home: '/home/x' }));
    await operations.createAccount({ ...REQUEST, limits: { maxProcesses: 500, cpuSeconds: 61 } });
    expect(parametersOf(requests)).toMatchObject({ max_processes: '500', cpu_minutes: '2' });
  });

  it('does not go to the host for what cannot be right', async () => {
    const { operations, requests } = await setUp(({ answer }) => answer({ ok: true, home: '/home/x' }));
    const error = await errorOf(operations.createAccount({ ...REQUEST, account: 'root' }));
    expect(error).toMatchObject({ code: HOST_ERROR.failed, mayHaveActed: false });
    expect(requests).toEqual([]);
  });
});

describe('an operation', () => {
  it('is reported with how it went and how long it took', async () => {
    const { operations, reports } = await setUp(({ answer, script }, step) => {
      step(250);
      answer(/^account=/m.test(script) ? { error: 'left', text: 'process 7', left: true } : { ok: true, accounts: [] });
    });
    expect(await operations.listAccounts()).toEqual([]);
    expect(await errorOf(operations.removeAccount(ACCOUNT))).toMatchObject({ mayHaveActed: true });
    expect(reports).toEqual([
      { operation: 'list', outcome: 'success', seconds: 0.25 },
      { operation: 'remove', outcome: HOST_ERROR.left, seconds: 0.25 },
    ]);
  });

  it('writes no key into the log', async () => {
    const { operations, log } = await setUp(({ answer }) =>
      answer({ error: 'failed', text: ADMIN_KEY.privateKey, left: true }),
    );
    const error = await errorOf(operations.createAccount(REQUEST));
    expect(log.join('')).toContain('"operation":"create"');
    for (const text of [...log, error.message]) expect(text).not.toContain(ADMIN_KEY.privateKey.slice(100, 140));
  });
});

describe('checking a host', () => {
  it.each([
    [299, false],
    [301, true],
    [-301, true],
  ])('whose clock is %d s ahead: warns %s', async (seconds, warns) => {
    const now = 1_700_000_000 + seconds;
    const { operations, log } = await setUp(({ answer }) => answer({ ok: true, now }));
    await operations.check();
    expect(log.join('').includes("the host's clock is wrong")).toBe(warns);
  });
});

it.each(['', 'a b', 'a:b', 'a,b', 'x'.repeat(65), '-a', "a'b", 'a\nb'])('no installation is called %j', (instance) => {
  const make = (): unknown =>
    createHostOperations({
      endpoint: { address: 'x', port: 22, user: 'root', secret: 's', hostKeys: [] },
      adminKey: () => undefined,
      policy: 'strict',
      instance,
      onFirstKey: async () => await Promise.resolve(),
      clock: createSteppedClock(),
      log: createLog({ level: 'error' }),
    });
  expect(make).toThrow(expect.objectContaining({ code: 'host.instance' }));
});
