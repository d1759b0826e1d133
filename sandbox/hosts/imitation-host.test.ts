import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import ssh2 from 'ssh2';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { HostOperations } from '#controller/host/contract.ts';
import { createHostOperations } from '#controller/host/host.ts';
import { type KeyPair, generateKeyPair } from '#controller/host/keys.ts';
import { systemClock } from '#shared/clock.ts';
import { startTimeOf } from '../run-folder.ts';
import type { Host } from './host.ts';
import { startImitationHost } from './imitation-host.ts';

const ACCOUNT = 'u-0123456789abcdef0123456789ab';
const UID = '6f1c6e8e-2f0c-4f0e-9d43-3a1f3c1c7b1a';

let runFolder: string;
let adminKey: KeyPair;
let accountKey: KeyPair;
let host: Host;
let operations: HostOperations;

beforeEach(async () => {
  runFolder = await mkdtemp(path.join(tmpdir(), 'imitation-test-'));
  [adminKey, accountKey] = await Promise.all([generateKeyPair('ed25519'), generateKeyPair('ed25519')]);
  const adminPublicKey = `${adminKey.publicKey} somebody@laptop`;
  host = await startImitationHost({ name: 'one', platform: 'linux/arm64', adminPublicKey, runFolder });
  operations = operationsOf('default');
});

afterEach(async () => {
  operations.close();
  await host.stop();
  await rm(runFolder, { recursive: true });
});

/** The controller's own. */
function operationsOf(instance: string): HostOperations {
  const { address, port, admin, hostKey } = host;
  return createHostOperations({
    endpoint: { address, port, user: admin, secret: 'key', hostKeys: [hostKey] },
    adminKey: () => adminKey.privateKey,
    policy: 'strict',
    instance,
    onFirstKey: async () => undefined,
    clock: systemClock,
    log: pino({ level: 'silent' }),
  });
}

async function create(expiresInMs = 60_000): Promise<{ home: string }> {
  const expiresAtMs = Date.now() + expiresInMs;
  const { publicKey } = accountKey;
  return await operations.createAccount({ account: ACCOUNT, taskRunUid: UID, publicKey, expiresAtMs, limits: {} });
}

/** Standard output and exit code of a command that the account runs. */
async function asAccount(command: string, input = ''): Promise<{ stdout: string; code: number }> {
  const client = new ssh2.Client();
  return await new Promise<{ stdout: string; code: number }>((resolve, reject) => {
    client.on('error', reject);
    client.on('ready', () =>
      client.exec(command, (error, channel) => {
        if (error !== undefined) return reject(error);
        let stdout = '';
        let code = -1;
        channel.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
        channel.on('exit', (exitCode: number) => (code = exitCode));
        channel.on('close', () => resolve({ stdout, code }));
        channel.end(input);
      }),
    );
    client.connect({ host: host.address, port: host.port, username: ACCOUNT, privateKey: accountKey.privateKey });
  }).finally(() => client.end());
}

test('the controller can check it, make an account, list it and remove it', async () => {
  await operations.check();
  const { home } = await create();
  expect(await operations.listAccounts()).toEqual([{ account: ACCOUNT, taskRunUid: UID }]);
  expect(await host.accounts()).toEqual([ACCOUNT]);
  expect(await host.homes()).toEqual([path.basename(home)]);
  await operations.removeAccount(ACCOUNT);
  await operations.removeAccount(ACCOUNT);
  expect(await host.accounts()).toEqual([]);
  expect(await host.homes()).toEqual([]);
  expect(await host.leftovers()).toEqual([]);
});

test('the account works in its home, with its input and its exit code', async () => {
  const { home } = await create();
  expect(await asAccount('cat; pwd; exit 7', 'in\n')).toEqual({ stdout: `in\n${home}\n`, code: 7 });
});

test('removing the account ends what it runs', async () => {
  await create();
  const running = asAccount('echo; exec sleep 1000');
  await expect.poll(async () => await host.processesOf(ACCOUNT)).toHaveLength(1);
  await operations.removeAccount(ACCOUNT);
  expect((await running).code).not.toBe(0);
});

test('a key that has expired, and one that is not the account’s, are refused', async () => {
  await create(-1000);
  await expect(asAccount('true')).rejects.toThrow('authentication methods failed');
  await create();
  accountKey = await generateKeyPair('ed25519');
  await expect(asAccount('true')).rejects.toThrow('authentication methods failed');
});

test('another installation’s account is not touched', async () => {
  await create();
  const others = operationsOf('other');
  expect(await others.listAccounts()).toEqual([]);
  await expect(others.removeAccount(ACCOUNT)).rejects.toMatchObject({ code: 'host.foreign-account' });
  others.close();
  expect(await host.accounts()).toEqual([ACCOUNT]);
});

test('it leaves nothing when it is stopped', async () => {
  await create();
  const running = asAccount('touch file; echo; exec sleep 1000').catch(() => undefined);
  await expect.poll(async () => await host.processesOf(ACCOUNT)).toHaveLength(1);
  const [sleep] = await host.processesOf(ACCOUNT);
  await host.stop();
  await running;
  expect(await readdir(runFolder)).toEqual([]);
  await expect.poll(async () => await startTimeOf(sleep?.pid ?? 0)).toBeUndefined();
});

test('the admin can run nothing else', async () => {
  const client = new ssh2.Client();
  const stderr = await new Promise<string>((resolve, reject) => {
    client.on('error', reject);
    client.on('ready', () =>
      client.exec('sh -s', (error, channel) => {
        if (error !== undefined) return reject(error);
        channel.stderr.on('data', (chunk: Buffer) => resolve(chunk.toString()));
        channel.end('id\n');
      }),
    );
    client.connect({ host: host.address, port: host.port, username: 'root', privateKey: adminKey.privateKey });
  }).finally(() => client.end());
  expect(stderr).toContain('this host is an imitation');
});
