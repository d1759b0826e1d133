import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { mustRun } from '#sandbox/hosts/command.ts';
import { type Host, type HostSpec, NO_SUDO, ROOT, SUDOER } from '#sandbox/hosts/host.ts';
import { type Hosts, startHosts } from '#sandbox/hosts/start-hosts.ts';
import { type OpenSsh, createOpenSsh } from './openssh.ts';

const ACCOUNT = 'u-0123456789abcdef0123456789ab';
const OTHER_ACCOUNT = 'u-ffffffffffffffffffffffffffff';
const SPECS = [
  { name: 'plain', platform: 'linux/arm64' },
  { name: 'sudoer', platform: 'linux/arm64', admin: SUDOER, port: 2222 },
  { name: 'no-sudo', platform: 'linux/s390x', admin: NO_SUDO },
  { name: 'fish', platform: 'linux/s390x', admin: { ...ROOT, shell: 'fish' } },
  { name: 'banner', platform: 'linux/s390x', admin: { ...SUDOER, shell: 'banner' }, rsaHostKey: true },
] as const satisfies HostSpec[];

/** The machine may have other things to do. */
const PATIENCE_MS = 20_000;
vi.setConfig({ testTimeout: 60_000 });

let ssh: OpenSsh;
let running: Hosts;

beforeAll(async () => {
  ssh = await createOpenSsh();
  running = await start(SPECS);
}, 300_000);

afterAll(async () => {
  await running.stop();
  await ssh.remove();
});

async function start(hosts: readonly HostSpec[]): Promise<Hosts> {
  return await startHosts({ kind: 'namespace', hosts, adminPublicKey: ssh.publicKey, progress: console.log });
}

function host(name: (typeof SPECS)[number]['name']): Host {
  const found = running.hosts.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no host ${name}`);
  return found;
}

test('root that may make no namespaces, as in a plain container, is told what it takes', async () => {
  const module = JSON.stringify(import.meta.resolve('#sandbox/hosts/start-hosts.ts'));
  const program = `
    import { startHosts } from ${module};
    await startHosts({ kind: 'namespace', hosts: [], adminPublicKey: 'none', progress: () => {} }).catch((error) => console.log(error.message));`;
  const node = [process.execPath, '--input-type=module-typescript', '--eval', program];
  expect(await mustRun('setpriv', ['--bounding-set', '-sys_admin', ...node])).toBe(
    'namespace hosts need root on Linux; in a container it must be a privileged one\n',
  );
});

describe('a host', () => {
  test('lets its admin in with the key, over IPv4 and IPv6', async () => {
    const plain = host('plain');
    expect(plain.hostKey).toMatch(/^ssh-ed25519 AAAA\S+$/);
    const asked = 'id -un; hostname; echo "$SSH_CONNECTION"';
    const answer = { code: 0, stdout: expect.stringMatching(/^root\nplain\n10\.213\./), stderr: '' };
    expect(await ssh.run(plain, asked)).toEqual(answer);
    const { addressV6 } = plain;
    if (addressV6 === undefined) throw new Error('this machine has no IPv6');
    const answerV6 = { ...answer, stdout: expect.stringMatching(/^root\nplain\nfd6d:7063:/) };
    expect(await ssh.run(plain, asked, { address: addressV6 })).toEqual(answerV6);
  });

  test('refuses another key', async () => {
    const stranger = await createOpenSsh();
    const refused = await stranger.run(host('plain'), 'true');
    expect(refused).toMatchObject({ code: 255, stderr: expect.stringContaining('Permission denied') });
    await stranger.remove();
  });

  test('lets a sudoer become root, on another port', async () => {
    expect(await ssh.run(host('sudoer'), 'id -un; sudo -n id -un')).toMatchObject({ stdout: 'builder\nroot\n' });
  });

  test('does not let other admins become root', async () => {
    expect((await ssh.run(host('no-sudo'), 'sudo -n id -un')).code).not.toBe(0);
    expect((await ssh.run(host('no-sudo'), 'useradd x')).code).not.toBe(0);
  });

  test('has an admin with a shell that is none of the usual', async () => {
    expect(await ssh.run(host('fish'), 'echo $FISH_VERSION')).toMatchObject({ stdout: expect.stringMatching(/^\d/) });
    const greeting = expect.stringMatching(/Authorised use only[^]*\nroot\n$/);
    expect(await ssh.run(host('banner'), 'sudo -n id -un')).toMatchObject({ stdout: greeting });
  });

  test('shows an RSA key too where asked to', async () => {
    const { stdout } = await host('banner').exec(['cat', '/etc/ssh/ssh_host_rsa_key.pub']);
    const rsa = stdout.split(' ').slice(0, 2).join(' ');
    expect(await ssh.run(host('banner'), 'true', { hostKey: rsa })).toMatchObject({ code: 0 });
  });

  test('sees neither this machine’s temporary files nor its root’s', async () => {
    const { stdout } = await host('plain').exec(['find', '/tmp', '/root', '/home', '-mindepth', '1']);
    expect(stdout).toBe('/root/.ssh\n/root/.ssh/authorized_keys\n');
  });

  test('reaches no network but the sandbox', async () => {
    const { stdout } = await host('plain').exec(['ip', 'route', 'show', 'default']);
    expect(stdout).toBe('');
  });
});

describe('inspection', () => {
  test('shows an account that was made over SSH, its home and its processes', async () => {
    const plain = host('plain');
    await ssh.run(plain, `useradd --create-home ${ACCOUNT} && su ${ACCOUNT} -c 'setsid sleep 1000 >/dev/null 2>&1 &'`);
    expect(await plain.accounts()).toEqual([ACCOUNT]);
    expect(await plain.homes()).toEqual([ACCOUNT]);
    expect(await plain.processesOf(ACCOUNT)).toEqual([{ pid: expect.any(Number), command: 'sleep' }]);
    expect(await plain.leftovers()).toEqual([]);
  });

  test('shows whatever a careless removal leaves', async () => {
    const plain = host('plain');
    const { stdout: uid } = await plain.exec(['id', '-u', ACCOUNT]);
    const mess = `touch /tmp/mess /var/tmp/mess; mkdir /dev/shm/mess; ipcmk --shmem 1`;
    await ssh.run(plain, `su ${ACCOUNT} -c '${mess}'; touch /var/mail/${ACCOUNT}`);
    const subIds = (await plain.exec(['cat', '/etc/subuid'])).stdout;
    await ssh.run(plain, `userdel --force ${ACCOUNT}; echo '${subIds.trim()}' >>/etc/subuid`);
    const left = (await plain.leftovers()).join('\n');
    for (const trace of [
      `(sleep) of user ${uid.trim()}`,
      `shared memory`,
      `/etc/subuid has a line for ${ACCOUNT}`,
      `/tmp/mess of user ${uid.trim()}`,
      `/var/tmp/mess`,
      `/dev/shm/mess`,
      `/var/mail/${ACCOUNT}`,
      `/home/${ACCOUNT}/.profile`,
    ]) {
      expect(left).toContain(trace);
    }
    expect(await plain.accounts()).toEqual([]);
    expect(await plain.homes()).toEqual([ACCOUNT]);
  });

  test('shows nothing once all is gone', async () => {
    const plain = host('plain');
    await plain.reboot();
    await plain.exec(['sh', '-c', ': >/etc/subuid; rm -r /var/tmp/mess /var/mail/u-* /home/u-*']);
    expect(await plain.leftovers()).toEqual([]);
  });
});

describe('a fault is seen by a client and goes away again:', () => {
  const works = { code: 0, stdout: 'fine\n' };

  beforeEach(async () => {
    await host('plain').exec(['rm', '-f', '/tmp/open', '/tmp/go-on']);
  });

  test('unreachable', async () => {
    const plain = host('plain');
    await plain.setUnreachable(true);
    await plain.setUnreachable(true);
    for (const address of [plain.address, plain.addressV6 ?? '']) {
      const gone = { code: 255, stderr: expect.stringMatching(/timed out|No route to host/) };
      expect(await ssh.run(plain, 'echo fine', { address, connectTimeoutS: 1 })).toMatchObject(gone);
    }
    await plain.setUnreachable(false);
    for (const address of [plain.address, plain.addressV6 ?? '']) {
      expect(await ssh.run(plain, 'echo fine', { address })).toMatchObject(works);
    }
  });

  test('slow', async () => {
    const plain = host('plain');
    await plain.setSlow(400);
    const slowMs = await timeMs(ssh.run(plain, 'true'));
    await plain.setSlow(0);
    await plain.setSlow(0);
    expect(slowMs).toBeGreaterThan(1200);
    expect(await timeMs(ssh.run(plain, 'true'))).toBeLessThan(slowMs / 2);
  });

  test('hung', async () => {
    const plain = host('plain');
    await plain.setHung(true);
    expect(await connectMs(plain)).toBeLessThan(1000);
    const hung = { code: 255, stderr: expect.stringContaining('timed out') };
    expect(await ssh.run(plain, 'echo fine', { connectTimeoutS: 1 })).toMatchObject(hung);
    await plain.setHung(false);
    expect(await ssh.run(plain, 'echo fine')).toMatchObject(works);
  });

  test('hung, as a session that is open sees it', async () => {
    const plain = host('plain');
    const session = ssh.run(plain, `${SAY_OPEN}; sleep 0.5; echo fine`);
    await isOpen(plain);
    await plain.setHung(true);
    await plain.setHung(false);
    expect(await session).toMatchObject(works);
  });

  test('full', async () => {
    const plain = host('plain');
    await plain.setFull(true);
    await plain.setFull(true);
    expect((await ssh.run(plain, `useradd --create-home ${ACCOUNT}`)).code).not.toBe(0);
    expect((await ssh.run(plain, 'echo x >/home/x')).stderr).toContain('No space left on device');
    expect((await ssh.run(plain, 'mkdir /tmp/x')).stderr).toContain('No space left on device');
    expect(await plain.accounts()).toEqual([]);
    await plain.setFull(false);
    expect(await ssh.run(plain, `useradd --create-home ${ACCOUNT}`)).toMatchObject({ code: 0 });
    expect(await ssh.run(plain, 'fallocate --length 900M /home/big')).toMatchObject({ code: 0 });
    await ssh.run(plain, `userdel --remove ${ACCOUNT}; rm /home/big`);
  });

  test('home read-only, also while a file there is open', async () => {
    const plain = host('plain');
    const writer = ssh.run(plain, `exec 3>/home/open; ${SAY_OPEN}; until [ -e /tmp/go-on ]; do sleep 0.01; done`);
    await isOpen(plain);
    await plain.setReadOnlyHome(true);
    await plain.setReadOnlyHome(true);
    const refused = { code: expect.any(Number), stderr: expect.stringContaining('Read-only file system') };
    expect(await ssh.run(plain, 'mkdir /home/x')).toMatchObject(refused);
    await plain.setReadOnlyHome(false);
    expect(await ssh.run(plain, 'mkdir /home/x && rmdir /home/x && echo fine')).toMatchObject(works);
    await plain.exec(['sh', '-c', 'rm /home/open; touch /tmp/go-on']);
    expect(await writer).toMatchObject({ code: 0 });
  });

  test('sudo broken', async () => {
    const sudoer = host('sudoer');
    await sudoer.breakSudo(true);
    const refused = { code: 1, stderr: expect.stringContaining('a password is required') };
    expect(await ssh.run(sudoer, 'sudo -n echo fine')).toMatchObject(refused);
    await sudoer.breakSudo(false);
    expect(await ssh.run(sudoer, 'sudo -n echo fine')).toMatchObject(works);
  });

  test('no useradd', async () => {
    const plain = host('plain');
    await plain.removeUseradd(true);
    expect(await ssh.run(plain, `useradd ${ACCOUNT}`)).toMatchObject({ code: 127 });
    await plain.removeUseradd(false);
    expect(await ssh.run(plain, `useradd ${ACCOUNT} && userdel ${ACCOUNT} && echo fine`)).toMatchObject(works);
  });

  test('another host key, while a session stays', async () => {
    const plain = host('plain');
    const before = plain.hostKey;
    const session = ssh.run(plain, `${SAY_OPEN}; until [ -e /tmp/go-on ]; do sleep 0.01; done; echo fine`);
    await isOpen(plain);
    const after = await plain.changeHostKey();
    expect(after).toMatch(/^ssh-ed25519 AAAA\S+$/);
    expect(after).not.toBe(before);
    expect(plain.hostKey).toBe(after);
    const changed = { code: 255, stderr: expect.stringContaining('IDENTIFICATION HAS CHANGED') };
    expect(await ssh.run(plain, 'true', { hostKey: before })).toMatchObject(changed);
    expect(await ssh.run(plain, 'touch /tmp/go-on; echo fine')).toMatchObject(works);
    expect(await session).toMatchObject(works);
  });

  test('a reboot: accounts stay, processes and temporary files go', async () => {
    const plain = host('plain');
    await ssh.run(
      plain,
      `useradd -m ${OTHER_ACCOUNT} && su ${OTHER_ACCOUNT} -c 'touch /tmp/x ~/y; setsid sleep 1000 >/dev/null 2>&1 &'`,
    );
    expect(await plain.processesOf(OTHER_ACCOUNT)).toHaveLength(1);
    await plain.reboot();
    expect(await ssh.run(plain, 'echo fine')).toMatchObject(works);
    expect(await plain.accounts()).toEqual([OTHER_ACCOUNT]);
    expect(await plain.processesOf(OTHER_ACCOUNT)).toEqual([]);
    expect(await ssh.run(plain, `ls /tmp; ls /home/${OTHER_ACCOUNT}`)).toMatchObject({ stdout: 'y\n' });
    await plain.exec(['userdel', '--remove', OTHER_ACCOUNT]);
    expect(await plain.leftovers()).toEqual([]);
  });
});

const SAY_OPEN = 'touch /tmp/open';

async function isOpen({ exec }: Host): Promise<void> {
  await vi.waitFor(async () => expect(await exec(['test', '-e', '/tmp/open'])).toMatchObject({ code: 0 }), PATIENCE_MS);
}

async function timeMs(work: Promise<unknown>): Promise<number> {
  const before = performance.now();
  await work;
  return performance.now() - before;
}

async function connectMs({ address, port }: Host): Promise<number> {
  const socket = connect({ host: address, port });
  const ms = await timeMs(once(socket, 'connect'));
  socket.destroy();
  return ms;
}
