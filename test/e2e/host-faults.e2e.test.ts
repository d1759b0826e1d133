import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { ConnectionState } from '#controller/host/connection.ts';
import { HOST_ERROR, type HostError, type HostOperations } from '#controller/host/contract.ts';
import { type HostOptions, type OperationReport } from '#controller/host/host.ts';
import { type Host, type HostSpec, NO_SUDO, SUDOER } from '#sandbox/hosts/host.ts';
import { ensureCommands } from '#sandbox/packages.ts';
import { type HostFixture, hostErrorOf, onHost, startHostFixture } from './host-fixture.ts';

const SPECS = [
  { name: 'plain', platform: 'linux/arm64', rsaHostKey: true },
  { name: 'sudoer', platform: 'linux/arm64', admin: SUDOER },
  { name: 'no-sudo', platform: 'linux/arm64', admin: NO_SUDO },
  { name: 'small', platform: 'linux/arm64', diskMb: 64 },
] as const satisfies HostSpec[];

vi.setConfig({ testTimeout: 60_000 });
/** The machine may have other things to do. */
const PATIENCE_MS = 20_000;

let fixture: HostFixture;
let plain: Host;

beforeAll(async () => {
  await ensureCommands(['busybox'], console.log);
  fixture = await startHostFixture(SPECS);
  plain = fixture.host('plain');
}, 300_000);

afterAll(async () => await fixture.stop());

async function traces(host: Host): Promise<unknown> {
  const limits = await onHost(host, 'ls /etc/security/limits.d');
  return { accounts: await host.accounts(), left: await host.leftovers(), limits: limits.match(/u-\S+/g) };
}

const NOTHING = { accounts: [], left: [], limits: null };

/** Where useradd's own settings say that homes are; undefined: they do not say. */
async function setHomes(folder: string | undefined): Promise<void> {
  const line = folder === undefined ? '' : `HOME=${folder}`;
  await onHost(plain, `sed -i '/^HOME=/d' /etc/default/useradd; printf '%s' '${line}' >>/etc/default/useradd`);
}

/** An account is asked for while the fault is on. */
async function createDuring(host: Host, fault: (on: boolean) => Promise<void>, options?: Partial<HostOptions>) {
  const operations = fixture.operations(host, options);
  await fault(true);
  try {
    return await hostErrorOf(fixture.create(operations, { limits: { maxProcesses: 100 } }));
  } finally {
    await fault(false);
    operations.close();
  }
}

describe('an account is not made, for a reason that is told, and nothing is left, where', () => {
  test('the admin may not use sudo', async () => {
    const host = fixture.host('no-sudo');
    const operations = fixture.operations(host);
    const refused = { code: HOST_ERROR.noSudo, mayHaveActed: false };
    expect(await hostErrorOf(operations.check())).toMatchObject(refused);
    const error = await hostErrorOf(fixture.create(operations));
    expect(error).toMatchObject(refused);
    expect(error.message).toMatch(/^the admin "builder" may not run commands as root with "sudo -n": sudo: .*password/);
    expect(await traces(host)).toEqual(NOTHING);
  });

  test('sudo asks for a password from now on', async () => {
    const host = fixture.host('sudoer');
    const error = await createDuring(host, async (on) => await host.breakSudo(on));
    expect(error).toMatchObject({ code: HOST_ERROR.noSudo, mayHaveActed: false });
    expect(await traces(host)).toEqual(NOTHING);
  });

  test('there is no useradd', async () => {
    const error = await createDuring(plain, async (on) => await plain.removeUseradd(on));
    const message = 'the command "useradd" is not there on the host';
    expect(error).toMatchObject({ code: HOST_ERROR.missingCommand, message, mayHaveActed: false });
    expect(await traces(plain)).toEqual(NOTHING);
  });

  test('the disk is full', async () => {
    const error = await createDuring(plain, async (on) => await plain.setFull(on));
    expect(error).toMatchObject({ code: HOST_ERROR.diskFull, mayHaveActed: false });
    expect(error.message).toMatch(/^the disk of the host is full: .*useradd/);
    expect(await traces(plain)).toEqual(NOTHING);
  });

  test('/home is read-only', async () => {
    const error = await createDuring(plain, async (on) => await plain.setReadOnlyHome(on));
    expect(error).toMatchObject({ code: HOST_ERROR.readOnly, mayHaveActed: false });
    expect(error.message).toMatch(/^a file system of the host is read-only: .*\/home/);
    expect(await traces(plain)).toEqual(NOTHING);
  });

  test('/etc is read-only', async () => {
    const script = (on: boolean): string =>
      on ? 'mount --bind /etc /etc && mount -o remount,bind,ro /etc' : 'umount --lazy /etc';
    const error = await createDuring(plain, async (on) => void (await onHost(plain, script(on))));
    expect(error).toMatchObject({ code: HOST_ERROR.readOnly, mayHaveActed: false });
    expect(await traces(plain)).toEqual(NOTHING);
  });

  test('there is no folder for homes', async () => {
    const error = await createDuring(plain, async (on) => await setHomes(on ? '/no/such' : undefined));
    expect(error).toMatchObject({ code: HOST_ERROR.failed, mayHaveActed: false });
    expect(error.message).toContain('/no/such/u-');
    expect(await traces(plain)).toEqual(NOTHING);
  });

  test.each(['/', '', '/srv/my homes', '"/home"', 'home', '/srv//homes', '/srv/../home'])(
    'homes could not be removed again: HOME=%s',
    async (homes) => {
      const error = await createDuring(plain, async (on) => await setHomes(on ? homes : undefined));
      expect(error).toMatchObject({ code: HOST_ERROR.failed, mayHaveActed: false });
      expect(error.message).toContain('HOME in /etc/default/useradd must be the plain path of a folder');
      expect(await traces(plain)).toEqual(NOTHING);
    },
  );

  test('nothing answers', async () => {
    const fault = async (on: boolean): Promise<void> => await plain.setUnreachable(on);
    const error = await createDuring(plain, fault, { connectTimeoutMs: 300 });
    expect(error).toMatchObject({ code: HOST_ERROR.unreachable, mayHaveActed: false });
    expect(error.message).toBe(`cannot connect to ${plain.address}: no answer in 0.3 s`);
    expect(await traces(plain)).toEqual(NOTHING);
  });

  test('the connection is accepted and then nothing answers', async () => {
    const fault = async (on: boolean): Promise<void> => await plain.setHung(on);
    const error = await createDuring(plain, fault, { connectTimeoutMs: 300 });
    expect(error).toMatchObject({ code: HOST_ERROR.unreachable, mayHaveActed: false });
    expect(error.message).toBe(`cannot connect to ${plain.address}: it did not finish the handshake in 0.3 s`);
    expect(await traces(plain)).toEqual(NOTHING);
  });
});

describe('a visit finds out that accounts cannot be made where', () => {
  test.each<[string, (on: boolean) => Promise<unknown>, Partial<HostError>]>([
    ['the disk is full', async (on) => await plain.setFull(on), { code: HOST_ERROR.diskFull }],
    ['/home is read-only', async (on) => await plain.setReadOnlyHome(on), { code: HOST_ERROR.readOnly }],
    ['there is no folder for homes', async (on) => await setHomes(on ? '/no/such' : undefined), {}],
    ['homes are in the root folder', async (on) => await setHomes(on ? '/' : undefined), {}],
    ['find is another one', async (on) => await replaceFind(on), { code: HOST_ERROR.missingCommand }],
  ])('%s', async (_, fault, expected) => {
    const operations = fixture.operations(plain);
    await operations.check();
    await fault(true);
    try {
      expect(await hostErrorOf(operations.check())).toMatchObject({ code: HOST_ERROR.failed, ...expected });
    } finally {
      await fault(false);
    }
    await operations.check();
    expect(await onHost(plain, 'ls -A /etc /home')).not.toContain('.multi-platform');
  });

  async function replaceFind(on: boolean): Promise<string> {
    return await onHost(plain, on ? 'ln -s /bin/busybox /usr/sbin/find' : 'rm /usr/sbin/find');
  }
});

describe('an account whose home has a slash too many in the settings', () => {
  test('is made and removed', async () => {
    const operations = fixture.operations(plain);
    await setHomes('/srv/homes//');
    await onHost(plain, 'mkdir /srv/homes');
    await operations.check();
    const made = await fixture.create(operations);
    expect(made.home).toBe(`/srv/homes/${made.account}`);
    await operations.removeAccount(made.account);
    expect(await onHost(plain, 'ls -A /srv/homes')).toBe('');
    await setHomes(undefined);
    await onHost(plain, 'rmdir /srv/homes');
    expect(await traces(plain)).toEqual(NOTHING);
  });
});

describe('an account is removed', () => {
  test('although it has filled the disk', async () => {
    const host = fixture.host('small');
    const operations = fixture.operations(host);
    const made = await fixture.create(operations);
    const { stderr } = await fixture.login(host, made, 'cat /dev/zero >big; cat /dev/zero >/tmp/big');
    expect(stderr).toContain('No space left on device');
    await operations.removeAccount(made.account);
    expect(await traces(host)).toEqual(NOTHING);
  });

  test('once its home can be written again', async () => {
    const operations = fixture.operations(plain);
    const made = await fixture.create(operations);
    await fixture.login(plain, made, 'touch file; setsid sleep 1000 >/dev/null 2>&1 </dev/null &');
    await plain.setReadOnlyHome(true);
    const error = await hostErrorOf(operations.removeAccount(made.account));
    expect(error).toMatchObject({ code: HOST_ERROR.left, mayHaveActed: true });
    expect(error.message).toMatch(
      /^not everything could be removed \(a file system of the host is read-only\): \/home\/u-/,
    );
    expect(await operations.listAccounts()).toHaveLength(1);
    expect(await plain.processesOf(made.account)).toEqual([]);
    await plain.setReadOnlyHome(false);
    await operations.removeAccount(made.account);
    expect(await traces(plain)).toEqual(NOTHING);
  });

  test('once /etc can be written again, and lets nobody in meanwhile', async () => {
    const operations = fixture.operations(plain);
    const made = await fixture.create(operations);
    await onHost(plain, 'mount --bind /etc /etc && mount -o remount,bind,ro /etc');
    expect(await hostErrorOf(operations.removeAccount(made.account))).toMatchObject({ mayHaveActed: true });
    expect((await fixture.login(plain, made, 'true')).code).toBe(255);
    await onHost(plain, 'umount --lazy /etc');
    await operations.removeAccount(made.account);
    expect(await traces(plain)).toEqual(NOTHING);
  });
});

describe('a host', () => {
  test('that hangs in the middle of a command is given up, and used again when it is back', async () => {
    const operations = fixture.operations(plain, { operationTimeoutMs: 500, connectTimeoutMs: 500 });
    await operations.check();
    await plain.setHung(true);
    const lost = await Promise.all([1, 2, 3].map(async () => await hostErrorOf(operations.check())));
    expect(lost).toMatchObject([1, 2, 3].map(() => ({ code: HOST_ERROR.timeout })));
    expect(await hostErrorOf(operations.check())).toMatchObject({ code: HOST_ERROR.unreachable });
    await plain.setHung(false);
    const again = fixture.operations(plain);
    await again.check();
    expect(await again.listAccounts()).toEqual([]);
    await vi.waitFor(async () => await operations.check(), PATIENCE_MS);
  });

  test('whose network is gone is noticed while nothing is asked of it', async () => {
    const states: ConnectionState[] = [];
    const operations = fixture.operations(plain, {
      keepaliveIntervalMs: 100,
      onStateChange: (state) => states.push(state),
    });
    await operations.check();
    await plain.setUnreachable(true);
    await vi.waitFor(() => expect(states).toEqual(['connecting', 'connected', 'disconnected']), PATIENCE_MS);
    await plain.setUnreachable(false);
    await operations.check();
    expect(states.at(-1)).toBe('connected');
  });

  test('that starts anew is used again at once', async () => {
    const operations = fixture.operations(plain);
    const made = await fixture.create(operations);
    await plain.reboot();
    await vi.waitFor(async () => await operations.removeAccount(made.account), PATIENCE_MS);
    expect(await traces(plain)).toEqual(NOTHING);
  });

  test('tells the operations that were tried, and how they went', async () => {
    const reports: OperationReport[] = [];
    const operations = fixture.operations(fixture.host('no-sudo'), { onOperation: (report) => reports.push(report) });
    await hostErrorOf(operations.check());
    expect(reports).toEqual([{ operation: 'check', outcome: 'host.no-sudo', seconds: expect.any(Number) }]);
  });
});

describe('a host key', () => {
  function withKeys(options: Partial<HostOptions> & { readonly hostKeys: readonly string[] }): HostOperations {
    const { hostKeys, ...rest } = options;
    const { address, port, admin: user } = plain;
    return fixture.operations(plain, { endpoint: { address, port, user, secret: 'host-keys', hostKeys }, ...rest });
  }

  test('that is not known is refused by policy strict, which says what to write down', async () => {
    const error = await hostErrorOf(withKeys({ hostKeys: [], policy: 'strict' }).check());
    expect(error).toMatchObject({ code: HOST_ERROR.hostKeyUnknown, mayHaveActed: false });
    const [, fingerprint] = (await onHost(plain, 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub')).split(' ');
    expect(error.message).toContain(`ssh-ed25519 ${fingerprint}`);
    expect(error.message).toContain(`"${plain.hostKey}"`);
  });

  test('that is not known is recorded first by policy trust-on-first-use', async () => {
    const recorded: string[] = [];
    const operations = withKeys({
      hostKeys: [],
      policy: 'trust-on-first-use',
      onFirstKey: async (line) => {
        await Promise.resolve();
        recorded.push(line);
      },
    });
    await operations.check();
    expect(recorded).toEqual([plain.hostKey]);
  });

  test('of RSA is found where it is the known one', async () => {
    const rsa = (await onHost(plain, 'cut -d " " -f 1,2 /etc/ssh/ssh_host_rsa_key.pub')).trim();
    const operations = withKeys({ hostKeys: [rsa] });
    await operations.check();
    expect(await operations.listAccounts()).toEqual([]);
  });

  test('that has changed is refused by either policy, but an open connection stays', async () => {
    const before = plain.hostKey;
    const open = withKeys({ hostKeys: [before] });
    await open.check();
    const now = await plain.changeHostKey();
    expect(now).not.toBe(before);
    expect(await open.listAccounts()).toEqual([]);
    for (const policy of ['strict', 'trust-on-first-use'] as const) {
      const error = await hostErrorOf(withKeys({ hostKeys: [before], policy }).check());
      expect(error).toMatchObject({ code: HOST_ERROR.hostKeyChanged, mayHaveActed: false });
      expect(error.message.match(/SHA256:[A-Za-z0-9+/]{43}/g)).toHaveLength(2);
    }
    await withKeys({ hostKeys: [now] }).check();
  });
});
