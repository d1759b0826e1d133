import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectSuccess } from '#sandbox/hosts/command.ts';
import type { Host } from '#sandbox/hosts/host.ts';
import { type Hosts, startHosts } from '#sandbox/hosts/start-hosts.ts';
import { ensureCommands } from '#sandbox/packages.ts';
import { type OpenSsh, createOpenSsh } from './openssh.ts';

const ACCOUNT = 'u-0123456789abcdef0123456789ab';

const DOCKERFILE = `FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin; echo built >/built"]
`;

let ssh: OpenSsh;
let running: Hosts;
let host: Host;

beforeAll(async () => {
  await ensureCommands(['podman', 'buildah', 'busybox'], console.log);
  ssh = await createOpenSsh();
  running = await startHosts({
    kind: 'namespace',
    hosts: [{ name: 'builder', platform: 'linux/arm64' }],
    adminPublicKey: ssh.publicKey,
    progress: console.log,
  });
  const [first] = running.hosts;
  if (first === undefined) throw new Error('no host');
  host = first;
  const makeAccount = `set -e; useradd --create-home ${ACCOUNT} && cp -r /root/.ssh /home/${ACCOUNT} &&
    chown -R ${ACCOUNT}: /home/${ACCOUNT}/.ssh`;
  expectSuccess([makeAccount], await host.exec(['sh', '-c', makeAccount]));
}, 300_000);

afterAll(async () => {
  await running.stop();
  await ssh.remove();
});

async function asAccount(command: string, input = ''): Promise<string> {
  const { code, stdout, stderr } = await ssh.run(host, command, { user: ACCOUNT, input });
  expect({ code, stderr }).toMatchObject({ code: 0 });
  return stdout;
}

test('an account builds an image and runs it, without root and without a flag', { timeout: 60_000 }, async () => {
  await asAccount('mkdir context; cp /bin/busybox context; cat >context/Dockerfile', DOCKERFILE);
  await asAccount('buildah bud --isolation chroot --tag localhost/tiny context');
  expect(await asAccount('podman run --rm localhost/tiny sh -c "cat /built; id -u"')).toBe('built\n0\n');
  expect(await asAccount('podman run --rm --volume ~/context:/w localhost/tiny ls /w')).toBe('Dockerfile\nbusybox\n');
});

test('another user inside the container is one of the account’s on the host', { timeout: 60_000 }, async () => {
  await asAccount('podman run --detach --user 1234 localhost/tiny sleep 1000');
  const { stdout } = await host.exec(['sh', '-c', 'stat -c %u:%n /proc/[0-9]*; cat /etc/subuid']);
  const first = Number(/:(?<first>\d+):/.exec(stdout.slice(stdout.indexOf(ACCOUNT)))?.groups?.['first']);
  expect(stdout).toContain(`${first + 1234 - 1}:/proc/`);
  expect(await host.processesOf(ACCOUNT)).toContainEqual({ pid: expect.any(Number), command: 'sleep' });
});
