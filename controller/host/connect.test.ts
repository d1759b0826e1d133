import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, type Socket, createServer } from 'node:net';
import { describe, expect, it, vi } from 'vitest';
import { Connection } from './connection.ts';
import { ADMIN_KEY, TIMEOUT_MS, errorOf, setUp, toStop } from './connection-test-setup.ts';
import { HOST_ERROR } from './contract.ts';
import { type KeyPair, generateKeyPair } from './keys.ts';
import { type SteppedClock, createSteppedClock } from './stand-in-ssh-server.ts';

describe('a host that cannot be reached', () => {
  it('refuses the connection', async () => {
    const { run, server } = await setUp();
    await server.stop();
    toStop.shift();
    const message = `cannot connect to [127.0.0.1]:${server.endpoint.port}: connection refused`;
    expect(await errorOf(run())).toMatchObject({ code: HOST_ERROR.unreachable, message, mayHaveActed: false });
  });

  it('accepts the connection and says nothing', async () => {
    const silent = createServer().listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as AddressInfo;
    const { clock, connection } = connectionTo(port);
    const accepted = once(silent, 'connection');
    const work = errorOf(connection.run('', { timeoutMs: TIMEOUT_MS }));
    const [socket] = (await accepted) as [Socket];
    await once(socket, 'data');
    clock.step(10_000);
    expect(await work).toMatchObject({
      code: HOST_ERROR.unreachable,
      message: `cannot connect to [127.0.0.1]:${port}: it did not finish the handshake in 10 s`,
    });
    silent.close();
  });

  it('is no SSH server', async () => {
    const web = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')).listen(0, '127.0.0.1');
    await once(web, 'listening');
    const { connection } = connectionTo((web.address() as AddressInfo).port);
    expect(await errorOf(connection.run('', { timeoutMs: TIMEOUT_MS }))).toMatchObject({
      code: HOST_ERROR.unreachable,
    });
    web.close();
  });

  it.each(['no.such.host.invalid', '', 'a b', '-oProxyCommand=id', 'x'.repeat(253), '\u0000', '漢字'])(
    'has an address that is none: %j',
    async (address) => {
      const { connection } = connectionTo(1, address);
      const error = await errorOf(connection.run('', { timeoutMs: TIMEOUT_MS }));
      expect(error.code).toBe(HOST_ERROR.unreachable);
      expect(error.message).toMatch(/^cannot connect to [^\n\0]*$/);
    },
  );

  function connectionTo(port: number, address = '127.0.0.1'): { clock: SteppedClock; connection: Connection } {
    const clock = createSteppedClock();
    const connection = new Connection({
      endpoint: { address, port, user: 'root', secret: 's', hostKeys: [] },
      adminKey: () => ADMIN_KEY.privateKey,
      policy: 'strict',
      onFirstKey: async () => await Promise.resolve(),
      clock,
    });
    toStop.push(() => connection.close());
    return { clock, connection };
  }
});

describe("the admin's key", () => {
  it('that the host refuses is named by its Secret', async () => {
    const { run } = await setUp({ refusesKeys: true });
    const error = await errorOf(run());
    expect(error).toMatchObject({ code: HOST_ERROR.authentication, mayHaveActed: false });
    expect(error.message).toContain('refuses the key of its admin "root" (id_rsa in the Secret "host-key")');
  });

  it.each([
    ['is missing', undefined],
    ['is missing', ' \n'],
    ['cannot be read as a private key', 'nonsense'],
    ['is a public key', ADMIN_KEY.publicKey],
    ['has a passphrase', encryptedKey()],
  ])('%s', async (what, adminKey) => {
    const { run, server } = await setUp({}, { adminKey: () => adminKey });
    const message = `the admin's key (id_rsa in the Secret "host-key") ${what}`;
    expect(await errorOf(run())).toMatchObject({ code: HOST_ERROR.adminKey, message });
    expect(server.connections).toBe(0);
  });

  it('may have other line ends, or none at the end', async () => {
    const { run } = await setUp({}, { adminKey: () => ADMIN_KEY.privateKey.trim().replaceAll('\n', '\r\n') });
    expect(await run()).toBe('hello');
  });

  it('may be RSA', async () => {
    const rsa = await generateKeyPair('rsa');
    const { run } = await setUp({}, { adminKey: () => rsa.privateKey });
    expect(await run()).toBe('hello');
  });
});

describe('the host key', () => {
  const fingerprint = /SHA256:[A-Za-z0-9+/]{43}/g;

  it('that is not known is refused by policy strict, with what to write down', async () => {
    const onLogin = vi.fn<() => void>();
    const { run, server } = await setUp({ onLogin }, { hostKeys: [] });
    const error = await errorOf(run());
    expect(error).toMatchObject({ code: HOST_ERROR.hostKeyUnknown, mayHaveActed: false });
    expect(error.message).toContain(`set .host-key to "${server.hostKey.publicKey}"`);
    expect(error.message).toMatch(fingerprint);
    expect(onLogin).not.toHaveBeenCalled();
  });

  it('that is not known is handed over by policy trust-on-first-use before anything is done', async () => {
    const recorded = Promise.withResolvers<void>();
    const onFirstKey = vi.fn<(line: string) => Promise<void>>(async () => await recorded.promise);
    const { run, server, requests } = await setUp({}, { hostKeys: [], policy: 'trust-on-first-use', onFirstKey });
    const work = run();
    await vi.waitFor(() => expect(onFirstKey).toHaveBeenCalled());
    expect(onFirstKey.mock.calls).toEqual([[server.hostKey.publicKey]]);
    expect(requests).toEqual([]);
    recorded.resolve();
    expect(await work).toBe('hello');
  });

  it('is known from then on', async () => {
    const hostKeys: readonly string[] = [];
    const onFirstKey = vi.fn<(line: string) => Promise<void>>(async () => await Promise.resolve());
    const { run, server, states } = await setUp({}, { hostKeys, policy: 'trust-on-first-use', onFirstKey });
    await run();
    server.cut();
    await vi.waitFor(() => expect(states.at(-1)).toBe('disconnected'));
    await run();
    expect(onFirstKey).toHaveBeenCalledTimes(1);
  });

  it('that cannot be recorded is not trusted', async () => {
    const onFirstKey = async (): Promise<void> => await Promise.reject(new Error('etcd is away'));
    const { run, requests } = await setUp({}, { hostKeys: [], policy: 'trust-on-first-use', onFirstKey });
    const error = await errorOf(run());
    expect(error).toMatchObject({ code: HOST_ERROR.failed, message: expect.stringContaining('etcd is away') });
    expect(requests).toEqual([]);
  });

  it.each(['strict', 'trust-on-first-use'] as const)('that has changed is refused by policy %s', async (policy) => {
    const onLogin = vi.fn<() => void>();
    const other = await generateKeyPair('ed25519');
    const { run } = await setUp({ onLogin }, { hostKeys: [other.publicKey], policy });
    const error = await errorOf(run());
    expect(error).toMatchObject({ code: HOST_ERROR.hostKeyChanged, mayHaveActed: false });
    expect(new Set(error.message.match(fingerprint)).size).toBe(2);
    expect(onLogin).not.toHaveBeenCalled();
  });

  it('may be any of those that are known', async () => {
    const hostKey = await generateKeyPair('ed25519');
    const other = await generateKeyPair('ed25519');
    const { run } = await setUp({ hostKey }, { hostKeys: [other.publicKey, `${hostKey.publicKey} a comment`] });
    expect(await run()).toBe('hello');
  });

  it('has changed where the host has none of the known type any more', async () => {
    const rsa: KeyPair = await generateKeyPair('rsa');
    const { run } = await setUp({}, { hostKeys: [rsa.publicKey] });
    const error = await errorOf(run());
    expect(error).toMatchObject({ code: HOST_ERROR.hostKeyChanged });
    expect(error.message).toContain('has no host key of the known type any more (ssh-rsa)');
  });

  it('that cannot be read makes no connection', async () => {
    const { run, server } = await setUp({}, { hostKeys: ['ssh-ed25519 nonsense'], policy: 'trust-on-first-use' });
    expect(await errorOf(run())).toMatchObject({ code: HOST_ERROR.hostKeyUnknown });
    expect(server.connections).toBe(0);
  });
});

function encryptedKey(): string {
  const cipher = { type: 'pkcs1', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' } as const;
  return generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export(cipher).toString();
}
