import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { HOST_ERROR, type HostOperations } from '#controller/host/contract.ts';
import type { ExecResult, Host } from '#sandbox/hosts/host.ts';
import { ensureCommands } from '#sandbox/packages.ts';
import { type HostFixture, type TestAccount, hostErrorOf, onHost, startHostFixture } from './host-fixture.ts';

vi.setConfig({ testTimeout: 60_000 });
/** The machine may have other things to do. */
const PATIENCE_MS = 20_000;

let fixture: HostFixture;
let host: Host;
let operations: HostOperations;
/** What the account under test leaves is the tenant's doing; the neighbour must not notice its removal. */
let tenant: TestAccount;
let neighbour: TestAccount;

beforeAll(async () => {
  await ensureCommands(['busybox', 'fuse-overlayfs', 'newuidmap', 'podman'], console.log);
  fixture = await startHostFixture([{ name: 'plain', platform: 'linux/arm64' }]);
  host = fixture.host('plain');
  operations = fixture.operations(host);
  neighbour = await fixture.create(operations);
  await asNeighbour(`
    umask 022; echo mine >kept; echo mine >/tmp/neighbour; echo mine >/dev/shm/neighbour; ipcmk --shmem 1
    setsid sleep 1000 >/dev/null 2>&1 </dev/null &`);
}, 300_000);

beforeEach(async () => {
  tenant = await fixture.create(operations);
});

afterAll(async () => {
  await fixture.stop();
});

async function asTenant(script: string): Promise<ExecResult> {
  return await fixture.login(host, tenant, script);
}

async function asNeighbour(script: string): Promise<ExecResult> {
  return await fixture.login(host, neighbour, script);
}

/** Removes the account under test and says what there is now. */
async function remove(): Promise<unknown> {
  await operations.removeAccount(tenant.account);
  return {
    accounts: await host.accounts(),
    left: await host.leftovers(),
    neighbour: [
      await onHost(host, `cat ${neighbour.home}/kept /tmp/neighbour /dev/shm/neighbour`),
      await onHost(host, `awk -v uid="$(id -u ${neighbour.account})" '$8 == uid' /proc/sysvipc/shm | wc -l`),
      ...(await host.processesOf(neighbour.account)).map(({ command }) => command),
    ],
  };
}

function onlyTheNeighbour(): unknown {
  return { accounts: [neighbour.account], left: [], neighbour: ['mine\nmine\nmine\n', '1\n', 'sleep'] };
}

async function commandsOfTenant(): Promise<string[]> {
  return (await host.processesOf(tenant.account)).map(({ command }) => command);
}

describe('removing ends', () => {
  test('daemons that left their session', async () => {
    await asTenant(`
      (setsid sleep 1001 &) >/dev/null 2>&1 </dev/null
      nohup sleep 1002 >/dev/null 2>&1 </dev/null &
      setsid sh -c 'trap "" TERM HUP INT; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null &
      sleep 0.2`);
    expect((await commandsOfTenant()).length).toBeGreaterThanOrEqual(4);
    expect(await remove()).toEqual(onlyTheNeighbour());
  });

  test('a session that is open, and whatever it starts', async () => {
    const session = asTenant('while :; do sleep 0.01; done');
    await vi.waitFor(async () => expect((await commandsOfTenant()).length).toBeGreaterThanOrEqual(2), PATIENCE_MS);
    expect(await remove()).toEqual(onlyTheNeighbour());
    expect((await session).code).toBe(255);
  });

  test('a fork bomb', async () => {
    await operations.removeAccount(tenant.account);
    tenant = await fixture.create(operations, { limits: { maxProcesses: 60 } });
    await asTenant(`
      cat >bomb <<'BOMB'
      while :; do sh ./bomb & sh ./bomb & done 2>/dev/null
BOMB
      setsid sh ./bomb >/dev/null 2>&1 </dev/null & sleep 0.5`);
    await vi.waitFor(async () => expect((await commandsOfTenant()).length).toBeGreaterThan(40), PATIENCE_MS);
    expect(await remove()).toEqual(onlyTheNeighbour());
  });

  test('processes that are stopped', async () => {
    await asTenant('setsid sleep 1003 >/dev/null 2>&1 </dev/null & sleep 0.2; kill -STOP $!');
    expect(await commandsOfTenant()).toEqual(['sleep']);
    expect(await remove()).toEqual(onlyTheNeighbour());
  });

  test('processes in a user namespace, also those of subordinate user ids', async () => {
    const launch = `unshare --user --map-root-user --map-users auto --map-groups auto --pid --fork --mount-proc`;
    const inside = `setpriv --reuid=1000 --clear-groups sleep 1005 & exec sleep 1006`;
    await asTenant(`mkdir box; setsid ${launch} sh -c '${inside}' >box/log 2>&1 </dev/null & sleep 0.5; cat box/log`);
    const first = Number(await onHost(host, `grep ^${tenant.account}: /etc/subuid | cut -d : -f 2`));
    const userIds = (await onHost(host, `grep -h ^Uid: /proc/[0-9]*/status | cut -f 2 | sort -un`)).trim().split('\n');
    expect(userIds.some((id) => Number(id) >= first && Number(id) < first + 65_536)).toBe(true);
    expect(await remove()).toEqual(onlyTheNeighbour());
  });
});

describe('removing ends and deletes', () => {
  test('rootless containers', async () => {
    const { stdout } = await asTenant(`
      mkdir -p root/bin root/etc && cp /bin/busybox root/bin && cd root
      printf 'root:x:0:0::/:/bin/sh\\nother:x:1000:1000::/:/bin/sh\\n' >etc/passwd
      podman run --detach --rootfs "$PWD:O" /bin/busybox sleep 1007
      podman run --detach --user 1000 --rootfs "$PWD:O" /bin/busybox sleep 1008
      podman run --user 1000 --volume /tmp:/outside --rootfs "$PWD:O" /bin/busybox touch /outside/from-container
      podman ps --format '{{.Status}}'; ls /tmp`);
    expect(stdout).toMatch(/\nUp .*\nUp .*\n[^]*from-container/);
    expect(await remove()).toEqual(onlyTheNeighbour());
  });
});

describe('removing deletes', () => {
  test('whatever is in the home, however it is named, nested and protected', async () => {
    await asTenant(`
      echo x >"$(printf 'line\\nfeed \\\\ "quote" -rf')"; mkdir -p 'a b/ c'; echo x >'a b/ c/ü'; chmod 000 'a b/ c' 'a b'
      mkdir .hidden; ln kept hard 2>/dev/null; mkfifo fifo; chmod 000 .
      deep=/tmp/deep; mkdir $deep; cd $deep; for i in $(seq 300); do mkdir ddddddddddddddddddd; cd ddddddddddddddddddd; done`);
    expect(await remove()).toEqual(onlyTheNeighbour());
  });

  test('files of subordinate user ids, as rootless containers leave them', async () => {
    await asTenant(`
      unshare --user --map-root-user --map-users auto --map-groups auto sh -c '
        mkdir box /tmp/box; touch box/file /tmp/box/file /var/tmp/boxed; chown -R 1000:1000 box /tmp/box /var/tmp/boxed'`);
    expect(await onHost(host, 'stat -c %u /var/tmp/boxed')).not.toBe(await onHost(host, `id -u ${tenant.account}`));
    expect(await remove()).toEqual(onlyTheNeighbour());
  });

  test('files in shared folders, and nothing of others in them', async () => {
    await asTenant(`
      mkdir /tmp/shared /var/tmp/own; chmod 777 /tmp/shared; echo x >/tmp/x; echo x >/var/tmp/own/x; echo x >/dev/shm/x
      ln -s /etc /tmp/etc; echo x >"/tmp/$(printf 'odd\\nname')"`);
    await asNeighbour('mkdir /tmp/open; chmod 777 /tmp/open; echo mine >/tmp/open/mine');
    await asTenant('echo x >/tmp/open/theirs; mkdir /tmp/open/folder; ln -s /etc/passwd /tmp/open/link');
    expect(await remove()).toEqual(onlyTheNeighbour());
    expect(await onHost(host, 'ls /tmp/open')).toBe('mine\n');
    expect(await onHost(host, 'ls /etc/passwd /etc/hosts | wc -l')).toBe('2\n');
  });

  test('files in shared folders behind a file system that only a neighbour may look into', async () => {
    await asNeighbour(`
      mkdir lower upper work /dev/shm/mount
      fuse-overlayfs -o lowerdir=lower,upperdir=upper,workdir=work /dev/shm/mount`);
    try {
      expect(await onHost(host, 'ls /dev/shm/mount 2>&1 || true')).toContain('Permission denied');
      // The one folder is looked through before the others.
      await asTenant('echo x >/tmp/x; mkdir /var/tmp/own; echo x >/var/tmp/own/x');
      expect(await remove()).toMatchObject({ accounts: [neighbour.account], left: [] });
      expect((await asNeighbour('ls -A /dev/shm/mount && echo there')).stdout).toBe('there\n');
    } finally {
      await asNeighbour('fusermount3 -u /dev/shm/mount; rm -r lower upper work /dev/shm/mount');
    }
  });

  test('mail, timetables, jobs, limits and IPC objects', async () => {
    await operations.removeAccount(tenant.account);
    tenant = await fixture.create(operations, { limits: { maxProcesses: 100 } });
    const { account } = tenant;
    await onHost(
      host,
      `install -o ${account} /dev/null /var/mail/${account}
       mkdir -p /var/spool/cron/crontabs /var/spool/cron/atjobs
       install -o ${account} /dev/null /var/spool/cron/crontabs/${account}
       install -o ${account} /dev/null /var/spool/cron/atjobs/a0000101`,
    );
    await asTenant('ipcmk --shmem 100; ipcmk --semaphore 3; ipcmk --queue; touch /dev/mqueue/queue');
    expect((await onHost(host, `ipcs | grep -c ${account.slice(0, 8)}`)).trim()).toBe('3');
    expect(await remove()).toEqual(onlyTheNeighbour());
    expect(await onHost(host, 'ls -A /dev/mqueue /var/spool/cron/crontabs /var/spool/cron/atjobs')).not.toMatch(
      /u-|a0/,
    );
    expect(await onHost(host, 'ls /etc/security/limits.d')).not.toContain(account);
  });
});

describe('with systemd', () => {
  /** There is none on the sandbox's hosts: this is what it would do, as far as removing sees it. */
  const STAND_IN = `#!/bin/sh
echo "$*" >>/run/loginctl-calls
umount "/run/user/$2" && rmdir "/run/user/$2" && rm "/run/systemd/users/$2"
`;

  test('removing lets it end the session, and waits for that', async () => {
    const uid = (await onHost(host, `id -u ${tenant.account}`)).trim();
    const install = 'mv /usr/bin/loginctl /run/real-loginctl; cat >/usr/bin/loginctl; chmod 755 /usr/bin/loginctl';
    await host.exec(['sh', '-c', install], { input: STAND_IN });
    await onHost(
      host,
      `mkdir -p /run/systemd/users /run/user/${uid} /var/lib/systemd/linger
       mount -t tmpfs tmpfs /run/user/${uid}; touch /run/systemd/users/${uid} /var/lib/systemd/linger/${tenant.account}
       chown ${uid} /run/user/${uid}`,
    );
    await asTenant('touch /run/user/$(id -u)/file');
    expect(await remove()).toEqual(onlyTheNeighbour());
    expect(await onHost(host, 'cat /run/loginctl-calls; ls /run/user /run/systemd/users /var/lib/systemd/linger')).toBe(
      `terminate-user ${uid}\n/run/systemd/users:\n\n/run/user:\n\n/var/lib/systemd/linger:\n`,
    );
    await onHost(host, 'rm /usr/bin/loginctl; mv /run/real-loginctl /usr/bin/loginctl 2>/dev/null || true');
  });

  test('removing ends all that is in the account’s control group', async () => {
    const uid = (await onHost(host, `id -u ${tenant.account}`)).trim();
    const group = `/sys/fs/cgroup/user.slice/user-${uid}.slice`;
    await asTenant('setsid sleep 1011 >/dev/null 2>&1 </dev/null &');
    // One that nothing but the group shows to be the account's.
    await onHost(
      host,
      `mkdir -p ${group}; setsid sleep 1012 >/dev/null 2>&1 </dev/null & echo $! >/run/grouped
       echo "$(cat /run/grouped)" >${group}/cgroup.procs`,
    );
    try {
      expect(await remove()).toEqual(onlyTheNeighbour());
      const state = 'grep -s State: "/proc/$(cat /run/grouped)/status" || echo gone';
      await vi.waitFor(async () => expect(await onHost(host, state)).toMatch(/gone|Z/), PATIENCE_MS);
    } finally {
      // The machine's kernel keeps groups: they would outlive the host.
      await onHost(host, `echo 1 >${group}/cgroup.kill; sleep 0.2; rmdir ${group} /sys/fs/cgroup/user.slice`);
    }
  });
});

describe.each([
  ['Debian and Ubuntu', 'dash', 'mawk'],
  ['Fedora and RHEL', 'bash', 'gawk'],
] as const)('with the shell and the awk of %s', (_, shell, awk) => {
  test('all of it goes as well', async () => {
    await ensureCommands([awk], console.log);
    const restore = await onHost(
      host,
      `for tool in /bin/sh /usr/bin/awk; do echo "ln -sf '$(readlink $tool)' $tool"; done
       ln -sf /bin/${shell} /bin/sh; ln -sf /usr/bin/${awk} /usr/bin/awk`,
    );
    await operations.removeAccount(tenant.account);
    tenant = await fixture.create(operations, { limits: { maxProcesses: 100, cpuSeconds: 60 } });
    const { stdout } = await asTenant(`
      setsid sleep 1009 >/dev/null 2>&1 </dev/null &
      setsid unshare --user --map-root-user --map-users auto --map-groups auto setpriv --reuid=1000 --clear-groups \\
        sh -c 'touch /tmp/of-subordinate; exec sleep 1010' >/dev/null 2>&1 </dev/null &
      mkdir lower upper work 'a mount'; fuse-overlayfs -o lowerdir=lower,upperdir=upper,workdir=work 'a mount'
      ipcmk --shmem 100 >ipc; ipcmk --semaphore 3 >ipc; ipcmk --queue >ipc; touch /tmp/x /var/tmp/x /dev/shm/x; sleep 0.5
      ulimit -u; stat -c %U /tmp/of-subordinate; grep -c fuse-overlayfs /proc/self/mountinfo`);
    expect(stdout).toBe('100\nUNKNOWN\n1\n');
    expect(await operations.listAccounts()).toContainEqual({ account: tenant.account, taskRunUid: tenant.taskRunUid });
    expect(await remove()).toEqual(onlyTheNeighbour());
    await onHost(host, restore);
  });
});

describe('removing is not led astray', () => {
  test('by a process of somebody else that gets the number of one that has just ended', async () => {
    await asTenant('setsid sleep 1013 >/dev/null 2>&1 </dev/null & echo $! >pid');
    const pid = (await onHost(host, `cat ${tenant.home}/pid`)).trim();
    // Found before setpriv itself: the account's processes end, and the neighbour begins one of the same number.
    const wrapper = `#!/bin/sh
      /usr/bin/setpriv "$@"
      while [ -e /proc/${pid} ]; do sleep 0.01; done
      echo ${Number(pid) - 1} >/proc/sys/kernel/ns_last_pid
      /usr/bin/setpriv --reuid=${neighbour.account} --clear-groups sleep 1000 >/dev/null 2>&1 </dev/null &
      echo $! >/run/reused-pid
`;
    await host.exec(['sh', '-c', 'cat >/usr/sbin/setpriv; chmod 755 /usr/sbin/setpriv'], { input: wrapper });
    try {
      await operations.removeAccount(tenant.account);
      expect(await onHost(host, 'cat /run/reused-pid')).toBe(`${pid}\n`);
      expect(await host.processesOf(neighbour.account)).toContainEqual({ pid: Number(pid), command: 'sleep' });
    } finally {
      await onHost(host, `rm /usr/sbin/setpriv; kill ${pid} || true`);
    }
  });

  test('by links to what is not the account’s', async () => {
    await onHost(host, 'mkdir -p /srv/precious; echo precious >/srv/precious/file; echo precious >/root/precious');
    await asTenant(`
      rm -rf .ssh; ln -s /root .ssh; ln -s /srv/precious data; ln -s / root; mkdir .local; ln -s /etc .local/share
      ln -s /srv/precious /tmp/data; ln -s /srv /var/tmp/data; ln -s /root /dev/shm/data`);
    expect(await remove()).toEqual(onlyTheNeighbour());
    expect(await onHost(host, 'cat /srv/precious/file /root/precious /root/.ssh/authorized_keys')).toBe(
      `precious\nprecious\n${fixture.adminKey.publicKey}\n`,
    );
  });

  test('by a link in place of what it is about to make', async () => {
    await onHost(host, `userdel ${tenant.account}; rm -r ${tenant.home}; ln -s /srv ${tenant.home}`);
    const { account, taskRunUid, key } = tenant;
    await operations.createAccount({
      account,
      taskRunUid,
      publicKey: key.publicKey,
      expiresAtMs: Date.now() + 60_000,
      limits: {},
    });
    expect((await asTenant('pwd -P')).stdout).toBe(`${tenant.home}\n`);
    expect(await onHost(host, 'ls -A /srv; stat -c %U /srv')).toBe('precious\nroot\n');
    expect(await remove()).toEqual(onlyTheNeighbour());
  });

  test('by a bind mount of something else into the home: it stops and says so', async () => {
    await asTenant('mkdir mnt');
    await onHost(host, `mount --bind /srv/precious ${tenant.home}/mnt`);
    const error = await hostErrorOf(operations.removeAccount(tenant.account));
    expect(error).toMatchObject({ code: HOST_ERROR.left, mayHaveActed: true });
    expect(error.message).toContain(`a mount at ${tenant.home}/mnt`);
    expect(await onHost(host, 'cat /srv/precious/file')).toBe('precious\n');
    expect((await asTenant('true')).code).toBe(255);
    await onHost(host, `umount ${tenant.home}/mnt`);
    expect(await remove()).toEqual(onlyTheNeighbour());
  });

  test('by file systems that the account has mounted itself', async () => {
    const { stdout } = await asTenant(`
      odd=$(printf 'line\\nfeed \\\\040\\n.'); odd=\${odd%.}
      mkdir lower upper work 'a mount' "$odd" /tmp/mount; echo x >lower/file
      for at in 'a mount' "$odd" /tmp/mount; do
        fuse-overlayfs -o lowerdir=lower,upperdir=upper,workdir=work "$at"
      done
      cat 'a mount/file'; grep -c fuse-overlayfs /proc/self/mountinfo`);
    expect(stdout).toBe('x\n3\n');
    expect(await remove()).toEqual(onlyTheNeighbour());
    expect(await onHost(host, 'grep -c fuse-overlayfs /proc/self/mountinfo || true')).toBe('0\n');
  });

  test('by a file system on top of the home', async () => {
    await onHost(host, `mount -t tmpfs tmpfs ${tenant.home}`);
    expect(await remove()).toEqual(onlyTheNeighbour());
    expect(await onHost(host, 'grep -c u- /proc/self/mountinfo || true')).toBe('0\n');
  });

  test('by an entry that is marked as ours and is not', async () => {
    const { account, taskRunUid } = tenant;
    const mark = `multi-platform-controller instance=installation-1 taskrun=${taskRunUid}`;
    const before = await onHost(host, `grep ^${account}: /etc/passwd`);
    for (const change of [
      `usermod --home /root ${account}`,
      `usermod --home /home/../root ${account}`,
      `usermod --home / ${account}`,
      `sed -i 's|^\\(${account}\\):x:[0-9]*|\\1:x:0|' /etc/passwd`,
      `sed -i 's|^\\(${account}\\):x:[0-9]*|\\1:x:33|' /etc/passwd`,
      `sed -i "s|^\\(${account}\\):x:[0-9]*|\\1:x:$(id -u ${neighbour.account})|" /etc/passwd`,
      `usermod --comment 'multi-platform-controller instance=installation taskrun=${taskRunUid}' ${account}`,
      `usermod --comment 'not ${mark}' ${account}`,
    ]) {
      await onHost(host, `${change} 2>&1`);
      const refused = await hostErrorOf(operations.removeAccount(account));
      expect({ change, code: refused.code }).toEqual({ change, code: HOST_ERROR.foreignAccount });
      await onHost(host, `sed -i 's|^${account}:.*|${before.trim()}|' /etc/passwd`);
    }
    expect((await asTenant('echo fine')).stdout).toBe('fine\n');
    expect(await remove()).toEqual(onlyTheNeighbour());
  });
});

describe('removing that was cut short', () => {
  test.each([
    ['the account was shut', 'usermod --lock --expiredate 1 --shell /usr/sbin/nologin ACCOUNT'],
    ['the home was deleted', 'rm -r /home/ACCOUNT'],
    ['the entry was deleted', 'userdel ACCOUNT'],
    ['one file of accounts was written', "sed -i '/^ACCOUNT:/d' /etc/passwd"],
  ])('after %s is done the next time', async (_, step) => {
    await onHost(host, step.replaceAll('ACCOUNT', tenant.account));
    expect(await remove()).toEqual(onlyTheNeighbour());
  });
});
