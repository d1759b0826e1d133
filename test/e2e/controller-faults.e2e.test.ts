import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { ROOT, SUDOER, type Host } from '#sandbox/hosts/host.ts';
import type { Sandbox } from '#sandbox/sandbox.ts';
import { accountName } from '#controller/host/account-name.ts';
import type { KubeObject, Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { ANNOTATION, LABEL } from '#shared/names.ts';

import { ARM, builds, leftOnHosts, outcomeOf, until } from './support/builds.ts';
import { controllerOf, startWithBuilds } from './support/controlled.ts';

const S390 = 'linux/s390x';
const OWN_SECRET = 'key-of-first';

let sandbox: Sandbox;
let on: ReturnType<typeof builds>;
let its: ReturnType<typeof controllerOf>;
/** Has more slots, so it is always chosen before `second`. */
let first: Host;
let second: Host;
/** The only one of its platform. */
let only: Host;

beforeAll(async () => {
  sandbox = await startWithBuilds({
    hosts: [
      { name: 'first', platform: ARM, slots: 8, admin: SUDOER },
      { name: 'second', platform: ARM, slots: 2, admin: ROOT },
      { name: 'only', platform: S390, slots: 4, admin: ROOT },
    ],
    controllerArgs: ['--let-go-after', '4s'],
  });
  on = builds(sandbox);
  its = controllerOf(sandbox);
  [first, second, only] = sandbox.hosts as [Host, Host, Host];
});

afterAll(async () => {
  await sandbox?.stop();
});

const isOffered = async (host: Host): Promise<boolean> =>
  (await its.metric('host_available', `{host="${host.name}",platform="${host.platform.replace('/', '-')}"}`)) === 1;

const offered = async (host: Host, wanted = true): Promise<void> =>
  void (await until(`host ${host.name} to be ${wanted ? 'offered' : 'out'}`, async () =>
    (await isOffered(host)) === wanted ? true : null,
  ));

/** Runs one build and says where. */
async function runsOn(name: string, platform?: string): Promise<string> {
  await on.create({ name, ...(platform !== undefined && { platform }) });
  expect(outcomeOf(await on.released(name))).toBe('True');
  const events = await on.events(name);
  const assigned = events.findLast(({ reason }) => reason === 'HostAssigned')?.message ?? '';
  return /on host (\S+)/.exec(assigned)?.[1] ?? assigned;
}

const list = async (change: Record<string, string | null> = {}): Promise<void> =>
  await sandbox.writeHostConfig((data) =>
    Object.fromEntries(
      Object.entries({ ...data, ...change }).filter((entry): entry is [string, string] => entry[1] !== null),
    ),
  );

/** Lists a host with another login or key, and waits until it is offered again. */
async function relist(host: Host, change: Record<string, string | null> = {}): Promise<void> {
  const times = async (): Promise<number> =>
    (await sandbox.controller.log()).split(`"msg":"host ${host.name} can be used"`).length;
  const before = await times();
  await list(change);
  await until(`host ${host.name} to be offered anew`, async () => ((await times()) > before ? true : null));
}

describe('a TaskRun goes to another host where the first one', () => {
  test.each<[string, (on: boolean) => Promise<void>, RegExp]>([
    ['has no useradd', async (is) => await first.removeUseradd(is), /the command \W+useradd\W+ is not there/],
    ['lets its admin do nothing as root', async (is) => await first.breakSudo(is), /may not run commands as root/],
    ['is full', async (is) => await first.setFull(is), /the disk of the host is full/],
    ['has a read-only home', async (is) => await first.setReadOnlyHome(is), /a file system of the host is read-only/],
  ])('%s', async (what, fault, reason) => {
    const name = `goes-on-${what.replaceAll(' ', '-')}`;
    await offered(first);
    await fault(true);
    try {
      await on.create({ name });
      const ended = await on.released(name);
      expect(outcomeOf(ended)).toBe('True');
      expect(ended.metadata.annotations?.[ANNOTATION.failedHosts]).toBe('first');
      const failed = (await on.events(name)).find((event) => event.reason === 'HostFailed');
      expect(failed?.message).toMatch(/^got no account on host first: /);
      expect(failed?.message).toMatch(reason);
      await its.logHas(new RegExp(`"msg":"host first is out: [^\n]*${reason.source}`));
    } finally {
      await fault(false);
    }
    await offered(first);
    expect(await runsOn(`${name}-after`)).toBe('first');
    expect(await leftOnHosts(sandbox.hosts)).toEqual([]);
    expect(await its.debts()).toEqual([]);
  });
});

test("where no host is left, the build's log names each one and what is wrong with it", async () => {
  await first.removeUseradd(true);
  await second.removeUseradd(true);
  await on.create({ name: 'none-left' });
  const ended = await on.released('none-left');
  await first.removeUseradd(false);
  await second.removeUseradd(false);
  expect(outcomeOf(ended)).toBe('False');
  const log = await on.log('none-left');
  expect(log).toContain('No account could be made on any build host for "linux/arm64"');
  expect(log).toMatch(/^- first: the command "useradd" is not there on the host$/m);
  expect(log).toMatch(/^- second: the command "useradd" is not there on the host$/m);
  expect(await on.leftInCluster()).toEqual([]);
  await Promise.all([offered(first), offered(second)]);
});

test("the admin's key Secret is missing, then wrong, then right: each is seen within a second or two, without a restart", async () => {
  await list({ 'host.first.secret': OWN_SECRET });
  await offered(first, false);
  await its.logHas(`(id_rsa in the Secret \\"${OWN_SECRET}\\") is missing`);
  expect(await runsOn('key-missing')).toBe('second');

  const path = PATH.secrets(sandbox.namespace);
  await sandbox.client.create<Secret>(path, { metadata: { name: OWN_SECRET }, stringData: { id_rsa: 'rubbish' } });
  await its.logHas(`(id_rsa in the Secret \\"${OWN_SECRET}\\") cannot be read as a private key`);
  expect(await isOffered(first)).toBe(false);

  const startMs = Date.now();
  await sandbox.client.patch(`${path}/${OWN_SECRET}`, { stringData: { id_rsa: sandbox.adminKey } });
  await offered(first);
  expect(Date.now() - startMs).toBeLessThan(3000);
  expect(await runsOn('key-right')).toBe('first');
  await relist(first);
  await sandbox.client.delete(PATH.secrets(sandbox.namespace, OWN_SECRET));
  expect(await runsOn('key-moved')).toBe('first');
});

describe('a host that shows another key', () => {
  test.each([
    ['than the pinned one', offered],
    [
      'than the one that was trusted on first use',
      async () => await relist(first, { 'host.first.host-key': null }),
    ] as const,
  ])('%s is out, said loudly, until the new one is pinned', async (what, begin) => {
    const name = `key-${what.replaceAll(' ', '-')}`;
    await begin(first);
    expect(await runsOn(name)).toBe('first');
    await first.changeHostKey();
    await first.reboot();
    // Until it is noticed, a build may meet the closed connection; it then goes on elsewhere.
    await on.create({ name: `${name}-changed` });
    expect(outcomeOf(await on.released(`${name}-changed`))).toBe('True');
    await offered(first, false);
    await its.logHas(/"level":"warn"[^\n]*host first is out[^\n]*shows another host key than the one that is known/);
    expect(await runsOn(`${name}-elsewhere`)).toBe('second');
    await list();
    await offered(first);
    expect(await runsOn(`${name}-pinned`)).toBe('first');
  });

  test('under the strict policy a host that no key is known of is out, and what to write is said', async () => {
    const fresh = await sandbox.addHost({ name: 'fresh', platform: 'linux/ppc64le', slots: 1 });
    await sandbox.controller.stop();
    await list({ 'host.fresh.host-key': null });
    await sandbox.controller.start(['--host-key-policy', 'strict']);
    await on.create({ name: 'strict', platform: 'linux/ppc64le' });
    await its.logHas(`set .host-key to \\"${fresh.hostKey}\\"`);
    await offered(fresh, false);
    await list();
    expect(outcomeOf(await on.released('strict'))).toMatch(/True|False/);
    expect(await runsOn('strict-pinned', 'linux/ppc64le')).toBe('fresh');
    await sandbox.controller.restart();
  });
});

test('a host that hangs slows nobody but its own TaskRuns, and those are told', async () => {
  expect(await runsOn('before-it-hangs', S390)).toBe('only');
  await only.setHung(true);
  await on.create({ name: 'on-the-hung-one', platform: S390 });
  const startMs = Date.now();
  await Promise.all(['1', '2', '3', '4'].map((number) => runsOn(`beside-${number}`)));
  const besideMs = Date.now() - startMs;
  const ended = await on.released('on-the-hung-one');
  await only.setHung(false);
  expect(besideMs).toBeLessThan(15_000);
  expect(outcomeOf(ended)).toBe('False');
  expect(await on.log('on-the-hung-one')).toMatch(/^- only: .*(lost|no answer|did not finish)/m);
  await offered(only);
  await until('debts to be settled', async () => ((await its.debts()).length === 0 ? true : null));
  expect(await leftOnHosts([only])).toEqual([]);
});

test('a host that dies while builds run on it: they are let go, what is owed is written down, and paid when it is back', async () => {
  const names = ['dies-1', 'dies-2', 'dies-3'];
  await Promise.all(names.map((name) => on.create({ name, platform: S390, remote: 'sleep 1000' })));
  const running = await Promise.all(names.map((name) => on.running(name)));
  await until('their steps to be logged in', async () => {
    const processes = await Promise.all((await only.accounts()).map((account) => only.processesOf(account)));
    return processes.filter((found) => found.some(({ command }) => command === 'sleep')).length === 3 ? true : null;
  });
  await only.setUnreachable(true);
  await on.cancel('dies-1');
  await on.delete('dies-2');
  await Promise.all([on.released('dies-1'), on.gone('dies-2')]);
  expect((await its.debts()).map(({ host, taskRun }) => `${taskRun} on ${host}`).toSorted()).toEqual([
    'dies-1 on only',
    'dies-2 on only',
  ]);
  expect(await its.metric('cleanup_ledger_size')).toBe(2);
  expect((await on.events('dies-1')).map(({ reason }) => reason)).toContain('CleanupOwed');
  // Another leader knows it all, too.
  await its.kill();
  await sandbox.controller.start();
  expect(await only.accounts()).toHaveLength(3);
  // It knows nothing of the host yet, and sends it nobody who would only be told that it fails.
  await on.create({ name: 'waits-for-the-dead', platform: S390 });
  await on.waiting('waits-for-the-dead');
  await offered(only, false);
  await only.setUnreachable(false);
  await until('debts to be paid', async () => ((await its.debts()).length === 0 ? true : null));
  const third = accountName(running[2]?.metadata.uid ?? '');
  expect(outcomeOf(await on.released('waits-for-the-dead'))).toBe('True');
  expect(await only.accounts()).toEqual([third]);
  await on.cancel('dies-3');
  await on.released('dies-3');
  expect(await leftOnHosts([only])).toEqual([]);
  await offered(only);
});

test('a build whose account cannot be removed keeps nobody else from its host, and goes once it can', async () => {
  const timesOut = async (): Promise<number> => (await sandbox.controller.log()).split('host only is out').length;
  await on.create({ name: 'sticks', platform: S390, remote: 'mkdir mnt; sleep 1000' });
  const account = accountName((await on.running('sticks')).metadata.uid ?? '');
  await until('its folder to be mounted over', async () => {
    const { code } = await only.exec(['mount', '--bind', '/srv', `/home/${account}/mnt`]);
    return code === 0 ? true : null;
  });
  const before = await timesOut();
  await on.cancel('sticks');
  await on.released('sticks');
  expect((await its.debts()).map(({ taskRun }) => taskRun)).toEqual(['sticks']);
  expect(await isOffered(only)).toBe(true);
  // A new leader visits the host and finds the debt.
  await its.kill();
  await sandbox.controller.start();
  await its.logHas(`host only still has account ${account}`);
  expect(await runsOn('beside-what-sticks', S390)).toBe('only');
  expect(await timesOut()).toBe(before);
  await only.exec(['umount', `/home/${account}/mnt`]);
  await until('the debt to be paid', async () => ((await its.debts()).length === 0 ? true : null));
  expect(await leftOnHosts([only])).toEqual([]);
});

test('at a start, accounts of ours that belong to nobody go; those of others, and of another installation, stay', async () => {
  const { metadata } = await sandbox.client.get<KubeObject>(PATH.namespace(sandbox.namespace));
  const mark = (instance: string): string => `multi-platform-controller instance=${instance} taskrun=0-0-0`;
  const accounts: readonly (readonly [string, string])[] = [
    [accountName('ours'), mark(metadata.uid ?? '')],
    [accountName('other-installation'), mark('11111111-2222-3333-4444-555555555555')],
    [accountName('no-mark'), 'somebody'],
    ['developer', mark(metadata.uid ?? '')],
  ];
  await sandbox.controller.stop();
  for (const [name, comment] of accounts)
    expect(await second.exec(['useradd', '--create-home', '--comment', comment, name])).toMatchObject({ code: 0 });
  await sandbox.controller.start();
  await its.logHas(`removed account ${accountName('ours')}`);
  const { stdout } = await second.exec(['sh', '-c', 'ls /home; cut -d: -f1 /etc/passwd']);
  const found = new Set(stdout.split('\n'));
  expect(accounts.map(([name]) => found.has(name))).toEqual([false, true, true, true]);
  for (const [name] of accounts.slice(1)) await second.exec(['userdel', '--remove', name]);
  expect(await on.leftInCluster()).toEqual([]);
  const { items } = await sandbox.client.list(PATH.taskRuns(), { labelSelector: LABEL.assignedHost });
  expect(items).toEqual([]);
});
