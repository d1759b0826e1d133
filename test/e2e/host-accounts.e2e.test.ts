import { deepEqual } from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { accountName } from '#controller/host/account-name.ts';
import { HOST_ERROR } from '#controller/host/contract.ts';
import { generateKeyPair } from '#controller/host/keys.ts';
import { type Host, type HostSpec, ROOT, SUDOER } from '#sandbox/hosts/host.ts';
import { HOUR_MS, type HostFixture, hostErrorOf, onHost, startHostFixture } from './host-fixture.ts';

const SPECS = [
  { name: 'plain', platform: 'linux/arm64' },
  { name: 'sudoer', platform: 'linux/arm64', admin: SUDOER, port: 2222 },
  { name: 'fish', platform: 'linux/s390x', admin: { ...SUDOER, shell: 'fish' } },
  { name: 'banner', platform: 'linux/s390x', admin: { ...ROOT, shell: 'banner' } },
] as const satisfies HostSpec[];

vi.setConfig({ testTimeout: 60_000 });

let fixture: HostFixture;
let plain: Host;

beforeAll(async () => {
  fixture = await startHostFixture(SPECS);
  plain = fixture.host('plain');
}, 300_000);

afterAll(async () => await fixture.stop());

afterEach(async () => {
  for (const host of fixture.running.hosts) {
    deepEqual({ accounts: await host.accounts(), left: await host.leftovers() }, { accounts: [], left: [] });
  }
});

describe.each(SPECS.map(({ name }) => name))('an account on the host "%s"', (name) => {
  test('is made, lets its owner in with OpenSSH, and is removed', async () => {
    const host = fixture.host(name);
    const operations = fixture.operations(host);
    await operations.check();
    const made = await fixture.create(operations);
    expect(made.home).toBe(`/home/${made.account}`);
    expect(await fixture.login(host, made, 'id -un; pwd; umask >/dev/null; ls -A; stat -c "%a %U %G" . .ssh')).toEqual({
      code: 0,
      stdout: `${made.account}\n${made.home}\n.ssh\n700 ${made.account} ${made.account}\n700 ${made.account} ${made.account}\n`,
      stderr: '',
    });
    expect(await operations.listAccounts()).toEqual([{ account: made.account, taskRunUid: made.taskRunUid }]);
    await operations.removeAccount(made.account);
    expect(await operations.listAccounts()).toEqual([]);
    expect((await fixture.login(host, made, 'true')).code).toBe(255);
  });
});

describe('an account', () => {
  test('cannot read another one’s home, nor be root', async () => {
    const operations = fixture.operations(plain);
    const [one, two] = [await fixture.create(operations), await fixture.create(operations)];
    expect((await fixture.login(plain, one, `ls ${two.home}`)).stderr).toContain('Permission denied');
    expect((await fixture.login(plain, one, 'sudo -n true')).code).not.toBe(0);
    expect((await fixture.login(plain, one, 'id -Gn')).stdout).toBe(`${one.account}\n`);
    await operations.removeAccount(one.account);
    expect((await fixture.login(plain, two, 'echo still here')).stdout).toBe('still here\n');
    await operations.removeAccount(two.account);
  });

  test('has a shell, no password, its mark and subordinate ids of its own', async () => {
    const operations = fixture.operations(plain);
    const [one, two] = [await fixture.create(operations), await fixture.create(operations)];
    const entry = (await onHost(plain, `grep ^${one.account}: /etc/passwd`)).trim().split(':');
    const mark = `multi-platform-controller instance=installation-1 taskrun=${one.taskRunUid}`;
    expect(entry.slice(4)).toEqual([mark, one.home, '/bin/bash']);
    expect(await onHost(plain, `grep ^${one.account}: /etc/shadow | cut -d : -f 2`)).toBe('*\n');
    const starts = await onHost(plain, `grep -hE '^(${one.account}|${two.account}):' /etc/subuid | cut -d : -f 2`);
    expect(new Set(starts.trim().split('\n')).size).toBe(2);
    await operations.removeAccount(one.account);
    await operations.removeAccount(two.account);
  });

  test('is made anew where there is one with our mark, with all that runs in it gone', async () => {
    const operations = fixture.operations(plain);
    const first = await fixture.create(operations);
    await fixture.login(plain, first, 'echo secret >old; setsid sleep 1000 >/dev/null 2>&1 </dev/null & sleep 0.1');
    const key = await generateKeyPair('rsa');
    const { account, taskRunUid } = first;
    await operations.createAccount({
      account,
      taskRunUid,
      publicKey: key.publicKey,
      expiresAtMs: Date.now() + HOUR_MS,
      limits: {},
    });
    expect(await plain.processesOf(account)).toEqual([]);
    expect((await fixture.login(plain, first, 'true')).code).toBe(255);
    expect((await fixture.login(plain, { ...first, key }, 'ls -A')).stdout).toBe('.ssh\n');
    await operations.removeAccount(account);
  });

  test('that is not ours is neither used, nor changed, nor removed, nor listed', async () => {
    const operations = fixture.operations(plain);
    const taskRunUid = randomUUID();
    const account = accountName(taskRunUid);
    await onHost(plain, `useradd --create-home --comment 'Ursula Ours' ${account}`);
    const before = await onHost(plain, `grep -h ${account} /etc/passwd /etc/shadow; ls -laR /home`);
    const { publicKey } = await generateKeyPair('ed25519');
    const request = { account, taskRunUid, publicKey, expiresAtMs: Date.now() + HOUR_MS, limits: {} };
    const refused = { code: HOST_ERROR.foreignAccount, mayHaveActed: false };
    expect(await hostErrorOf(operations.createAccount(request))).toMatchObject(refused);
    expect(await hostErrorOf(operations.removeAccount(account))).toMatchObject(refused);
    expect(await operations.listAccounts()).toEqual([]);
    expect(await onHost(plain, `grep -h ${account} /etc/passwd /etc/shadow; ls -laR /home`)).toBe(before);
    await onHost(plain, `userdel --remove ${account} 2>&1`);
  });

  test('of another installation on the same host is left alone', async () => {
    const [ours, theirs] = ['installation-1', 'installation-12'].map((instance) =>
      fixture.operations(plain, { instance }),
    );
    if (ours === undefined || theirs === undefined) throw new Error('two were made');
    const [mine, other] = [await fixture.create(ours), await fixture.create(theirs)];
    expect(await ours.listAccounts()).toEqual([{ account: mine.account, taskRunUid: mine.taskRunUid }]);
    expect(await theirs.listAccounts()).toEqual([{ account: other.account, taskRunUid: other.taskRunUid }]);
    expect(await hostErrorOf(ours.removeAccount(other.account))).toMatchObject({ code: HOST_ERROR.foreignAccount });
    expect((await fixture.login(plain, other, 'echo fine')).stdout).toBe('fine\n');
    await ours.removeAccount(mine.account);
    await theirs.removeAccount(other.account);
  });

  test('can be removed twice, and at the same time, and without ever having been there', async () => {
    const operations = fixture.operations(plain);
    const { account } = await fixture.create(operations);
    await Promise.all(Array.from({ length: 4 }, async () => await operations.removeAccount(account)));
    await operations.removeAccount(account);
    await operations.removeAccount(accountName(randomUUID()));
    expect(await plain.accounts()).toEqual([]);
  });

  test('that somebody removed by hand leaves nothing once it is removed', async () => {
    const operations = fixture.operations(plain);
    const { account } = await fixture.create(operations, { limits: { maxProcesses: 10 } });
    const subordinate = await onHost(plain, `grep ${account} /etc/subuid`);
    await onHost(plain, `userdel ${account}; groupadd ${account}; echo '${subordinate.trim()}' >>/etc/subuid`);
    await operations.removeAccount(account);
    expect(await onHost(plain, 'ls /etc/security/limits.d')).not.toContain(account);
  });

  test('is one of eight that are made and removed at the same time', async () => {
    const operations = fixture.operations(plain);
    const made = await Promise.all(Array.from({ length: 8 }, async () => await fixture.create(operations)));
    expect(await plain.accounts()).toEqual(made.map(({ account }) => account).toSorted());
    const whoami = await Promise.all(
      made.map(async (one) => (await fixture.login(plain, one, 'id -un')).stdout.trim()),
    );
    expect(whoami).toEqual(made.map(({ account }) => account));
    await Promise.all(made.map(async ({ account }) => await operations.removeAccount(account)));
  });

  test('can be made and removed where the server allows two sessions on a connection', async () => {
    const maxSessions = async (change: string): Promise<string> =>
      await onHost(plain, `${change} /etc/ssh/sshd_config; kill -HUP "$(cat /run/sshd.pid)"; sleep 0.2`);
    await maxSessions(`sed -i '1i MaxSessions 2'`);
    const operations = fixture.operations(plain);
    const made = await Promise.all(Array.from({ length: 6 }, async () => await fixture.create(operations)));
    expect(await operations.listAccounts()).toHaveLength(6);
    await Promise.all(made.map(async ({ account }) => await operations.removeAccount(account)));
    operations.close();
    await maxSessions(`sed -i '/^MaxSessions/d'`);
  });

  test('can be made over IPv6', async () => {
    const { addressV6: address, port, admin: user, hostKey } = plain;
    if (address === undefined) throw new Error('this machine has no IPv6');
    const operations = fixture.operations(plain, {
      endpoint: { address, port, user, secret: 's', hostKeys: [hostKey] },
    });
    const made = await fixture.create(operations);
    expect((await fixture.login(plain, made, 'echo "$SSH_CONNECTION"', address)).stdout).toContain(address);
    await operations.removeAccount(made.account);
  });
});

describe('a key', () => {
  test('is refused by the host itself once it has expired', async () => {
    const operations = fixture.operations(plain);
    const soon = await fixture.create(operations, { expiresAtMs: Date.now() + 60_000 });
    const past = await fixture.create(operations, { expiresAtMs: Date.now() - 1000 });
    expect((await fixture.login(plain, soon, 'echo in')).stdout).toBe('in\n');
    expect(await fixture.login(plain, past, 'echo in')).toMatchObject({
      code: 255,
      stderr: expect.stringContaining('Permission denied'),
    });
    await operations.removeAccount(soon.account);
    await operations.removeAccount(past.account);
  });

  test.each(['yes', 'no'])(
    'that a build has written itself is of no use after the end either: UsePAM %s',
    async (pam) => {
      const setting = async (value: string): Promise<string> =>
        await onHost(
          plain,
          `sed -i 's/^UsePAM.*/UsePAM ${value}/' /etc/ssh/sshd_config; kill -HUP "$(cat /run/sshd.pid)"; sleep 0.2`,
        );
      await setting(pam);
      const operations = fixture.operations(plain);
      const dayMs = 24 * HOUR_MS;
      const [now, past] = [
        await fixture.create(operations, { expiresAtMs: Date.now() + 60_000 }),
        await fixture.create(operations, { expiresAtMs: Date.now() - 3 * dayMs }),
      ];
      for (const { home, key } of [now, past])
        await onHost(plain, `echo '${key.publicKey}' >>${home}/.ssh/authorized_keys`);
      expect((await fixture.login(plain, now, 'echo in')).stdout).toBe('in\n');
      expect((await fixture.login(plain, past, 'echo in')).code).toBe(255);
      const days = await onHost(plain, `grep ^${now.account}: /etc/shadow | cut -d : -f 8`);
      expect(Number(days) - (Date.now() + 60_000) / dayMs).toBeCloseTo(0.5, 0);
      await operations.removeAccount(now.account);
      await operations.removeAccount(past.account);
      operations.close();
      await setting('yes');
    },
  );

  test('expires at the same moment on a host in another time zone', async () => {
    await onHost(
      plain,
      'ln -sf /usr/share/zoneinfo/Asia/Kolkata /etc/localtime; kill -HUP "$(cat /run/sshd.pid)"; sleep 0.2',
    );
    const operations = fixture.operations(plain);
    const made = await fixture.create(operations, { expiresAtMs: Date.UTC(2031, 0, 2, 3, 4, 5) });
    expect(await onHost(plain, `cat ${made.home}/.ssh/authorized_keys`)).toBe(
      `expiry-time="20310102083405" ${made.key.publicKey}\n`,
    );
    const past = await fixture.create(operations, { expiresAtMs: Date.now() - 60_000 });
    expect((await fixture.login(plain, made, 'echo in')).stdout).toBe('in\n');
    expect((await fixture.login(plain, past, 'echo in')).code).toBe(255);
    await operations.removeAccount(made.account);
    await operations.removeAccount(past.account);
    operations.close();
    await onHost(
      plain,
      'ln -sf /usr/share/zoneinfo/Etc/UTC /etc/localtime; kill -HUP "$(cat /run/sshd.pid)"; sleep 0.2',
    );
  });
});

describe('limits', () => {
  test('hold for what the account runs, and only there', async () => {
    const operations = fixture.operations(plain);
    const limited = await fixture.create(operations, { limits: { maxProcesses: 50, cpuSeconds: 90 } });
    const free = await fixture.create(operations);
    const show = 'ulimit -Hu; ulimit -Su; ulimit -Ht; ulimit -St';
    expect((await fixture.login(plain, limited, show)).stdout).toBe('50\n50\n120\n120\n');
    expect((await fixture.login(plain, free, show)).stdout).not.toContain('50\n');
    const burst = 'for i in $(seq 100); do sleep 5 & done 2>&1 | tail -n 1';
    expect((await fixture.login(plain, limited, burst)).stdout).toMatch(/fork|resource/i);
    await operations.removeAccount(limited.account);
    await operations.removeAccount(free.account);
    expect(await onHost(plain, 'ls /etc/security/limits.d')).not.toMatch(/u-/);
  });
});

describe('hostile text', () => {
  const HOSTILE = [
    `'; touch /owned; '`,
    '$(touch /owned)',
    '`touch /owned`',
    'a\ntouch /owned\n',
    'x" y',
    '../../etc',
    'a:0:0:root:/root:/bin/sh',
    'u-00\u0000ff',
    '-rf',
    '漢字 🙂',
    'x'.repeat(253),
  ];

  test.each(HOSTILE)('is refused before it reaches the host: %j', async (text) => {
    const operations = fixture.operations(plain);
    const taskRunUid = randomUUID();
    const { publicKey } = await generateKeyPair('ed25519');
    const request = { account: accountName(taskRunUid), taskRunUid, publicKey, expiresAtMs: Date.now(), limits: {} };
    const refused = { code: HOST_ERROR.failed, mayHaveActed: false };
    for (const wrong of [
      { account: text },
      { account: `${request.account}${text}` },
      { taskRunUid: text },
      { publicKey: text },
      { publicKey: `${publicKey}${text}` },
      { expiresAtMs: Number.NaN },
      { limits: { maxProcesses: -1 } },
      { limits: { cpuSeconds: Infinity } },
    ]) {
      expect(await hostErrorOf(operations.createAccount({ ...request, ...wrong }))).toMatchObject(refused);
    }
    expect(await hostErrorOf(operations.removeAccount(text))).toMatchObject(refused);
    expect(() => fixture.operations(plain, { instance: text })).toThrow(
      expect.objectContaining({ code: 'host.instance' }),
    );
    expect(await onHost(plain, 'ls /')).not.toContain('owned');
  });

  test('as the name of an admin is a name that the host does not know', async () => {
    // One with a NUL ends the connection: no protocol error shall look like a wrong key.
    for (const user of HOSTILE.filter((text) => !text.includes('\0'))) {
      const endpoint = { address: plain.address, port: plain.port, user, secret: 's', hostKeys: [plain.hostKey] };
      const error = await hostErrorOf(fixture.operations(plain, { endpoint }).check());
      expect(error.code).toBe(HOST_ERROR.authentication);
      expect(error.message).not.toMatch(/[\n\0]/);
    }
  });
});
