import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { Host } from '#sandbox/hosts/host.ts';
import type { Sandbox } from '#sandbox/sandbox.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { HOST_CONFIG_NAME } from '#shared/names.ts';

import { ARM, builds, leftOnHosts, outcomeOf, until, watchAccounts } from './support/builds.ts';
import { controllerOf, startWithBuilds } from './support/controlled.ts';

type Data = Record<string, string>;
type Change = (data: Data) => Data;

const S390 = 'linux/s390x';
const SLOTS = 4;

let sandbox: Sandbox;
let on: ReturnType<typeof builds>;
let its: ReturnType<typeof controllerOf>;
let spare: Host;

beforeAll(async () => {
  sandbox = await startWithBuilds({
    hosts: ['a', 'b', 'c'].map((name) => ({ name, platform: ARM, slots: SLOTS })),
    controllerArgs: ['--scan-interval', '2s'],
  });
  on = builds(sandbox);
  its = controllerOf(sandbox);
  spare = await sandbox.addHost({ name: 'spare', platform: ARM, slots: SLOTS });
});

afterAll(async () => {
  await sandbox?.stop();
});

/** Only hosts a, b and c, with what `change` makes of that. */
const list = async (change: Change = (data) => data): Promise<void> =>
  await sandbox.writeHostConfig((data) => change(without(data, 'spare')));

const set =
  (key: string, value: string): Change =>
  (data) => ({ ...data, [key]: value });

const without = (data: Data, host: string): Data =>
  Object.fromEntries(Object.entries(data).filter(([key]) => !key.startsWith(`host.${host}.`)));

const renamed = (data: Data, from: string, to: string): Data =>
  Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key.replace(`host.${from}.`, `host.${to}.`), value] as const),
  );

const BROKEN: readonly (readonly [string, string, RegExp])[] = [
  ['host.b.address', '10.0.0.300', /^host\.b\.address: "10\.0\.0\.300" is not an IPv4 address/],
  ['host.b.port', '0', /^host\.b\.port: "0" is not a port/],
  ['host.b.user', 'root; reboot', /^host\.b\.user: "root; reboot" is not the name of an account/],
  ['host.b.platform', 'Linux/ARM64', /^host\.b\.platform: "Linux\/ARM64" is not a platform/],
  ['host.b.secret', '../key', /^host\.b\.secret: "\.\.\/key" is not a Secret's name/],
  ['host.b.concurrency', '-1', /^host\.b\.concurrency: "-1" is not a whole number from 0/],
  ['host.b.host-key', 'ssh-dss AAAA', /^host\.b\.host-key: a host key looks like a line of/],
];

describe('while 30 TaskRuns run', () => {
  test('the host list is edited in every way, and all of them succeed on a host that is not over its slots', async () => {
    const watches = [...sandbox.hosts].map((host) => ({ host, watch: watchAccounts(host) }));
    const names = Array.from({ length: 30 }, (_, index) => `edit-${index}`);
    await Promise.all(names.map((name) => on.create({ name, remote: 'sleep 2.5; echo built' })));
    await Promise.all(names.slice(0, 3).map((name) => on.running(name)));

    // First, while more are waiting than there are slots: the machine must not get those of both names.
    await list((data) => renamed(data, 'c', 'c2'));
    await its.metricIs('host_slots', SLOTS, '{host="c2",platform="linux-arm64"}');
    for (const [key, value, event] of BROKEN) {
      await list(set(key, value));
      await its.metricIs('config_errors', 1);
      await until(
        `an Event on ${key}`,
        async () => (await its.configEvents()).find((text) => event.test(text)) ?? null,
      );
      await its.logHas(`ConfigMap ${HOST_CONFIG_NAME}, key ${key}: `);
    }
    await list((data) => {
      const { 'host.b.secret': _, ...rest } = data;
      return rest;
    });
    await its.logHas('host b lacks');

    await list((data) => ({ ...data, colour: 'blue', 'host.a.colour': 'blue', 'dynamic-platforms': 'linux/arm64' }));
    await its.metricIs('config_errors', 0);
    await its.logHas('key host.a.colour: ');
    await its.logHas('key dynamic-platforms: ');
    await its.logHas('key colour: ');

    await list((data) => without(data, 'c'));
    await its.logHas('took over a list of 2 hosts');
    await list();
    await list((data) => ({
      ...data,
      'host.c.address': spare.address,
      'host.c.host-key': spare.hostKey,
    }));
    await its.metricIs('host_slots', SLOTS, '{host="c",platform="linux-arm64"}');
    for (const concurrency of [1, 8, 0]) {
      await list(set('host.a.concurrency', String(concurrency)));
      await its.metricIs('host_slots', concurrency, '{host="a",platform="linux-arm64"}');
    }
    await list(set('host.a.platform', S390));
    await its.metricIs('host_slots', SLOTS, '{host="a",platform="linux-s390x"}');
    await list();

    const ended = await Promise.all(names.map((name) => on.released(name)));
    expect(ended.map(outcomeOf)).toEqual(names.map(() => 'True'));
    expect(await on.leftInCluster()).toEqual([]);
    expect(await leftOnHosts(sandbox.hosts)).toEqual([]);
    for (const { host, watch } of watches) {
      const most = await watch.stop();
      expect(most, host.name).toBeLessThanOrEqual(host.name === 'a' ? 8 : SLOTS);
      expect(most, host.name).toBeGreaterThanOrEqual(host.name === 'spare' ? 0 : 1);
    }
    expect(await its.debts()).toEqual([]);
  });

  test('the list changes while no controller runs: they are cleaned where they run', async () => {
    const names = Array.from({ length: 9 }, (_, index) => `offline-${index}`);
    await Promise.all(names.map((name) => on.create({ name, remote: 'sleep 5; echo built' })));
    await Promise.all(names.map((name) => on.running(name)));
    await its.kill();
    await list((data) => ({
      ...renamed(without(data, 'a'), 'b', 'b2'),
      'host.c.address': spare.address,
      'host.c.host-key': spare.hostKey,
    }));
    await sandbox.controller.start();
    await on.create({ name: 'after-the-change' });
    expect(outcomeOf(await on.released('after-the-change'))).toBe('True');
    const ended = await Promise.all(names.map((name) => on.released(name)));
    expect(ended.map(outcomeOf)).toEqual(names.map(() => 'True'));
    expect(await leftOnHosts(sandbox.hosts)).toEqual([]);
    expect(await on.leftInCluster()).toEqual([]);
    await list();
  });
});

describe('a host list that', () => {
  test('cannot be used at all leaves the last one in force', async () => {
    await list((data) => Object.fromEntries(Object.keys(data).map((key) => [key, '!'])));
    await its.logHas('the last list of hosts stays in force');
    await on.create({ name: 'last-list' });
    expect(outcomeOf(await on.released('last-list'))).toBe('True');
    await list();
    await its.metricIs('config_errors', 0);
  });

  test('has nothing in it that anybody knows leaves the last one in force as well', async () => {
    await list(() => ({ hosts: 'a, b, c', 'Host.a.address': '10.0.0.1' }));
    await its.logHas('key Host.a.address: ');
    await on.create({ name: 'misspelt-list' });
    expect(outcomeOf(await on.released('misspelt-list'))).toBe('True');
    await list();
  });

  test('is deleted leaves the last one in force; at a start without one, builds are told, until there is one', async () => {
    await sandbox.client.delete(PATH.configMaps(sandbox.namespace, HOST_CONFIG_NAME));
    await its.logHas('was deleted: the last list of hosts stays in force');
    await on.create({ name: 'deleted-list' });
    expect(outcomeOf(await on.released('deleted-list'))).toBe('True');

    await sandbox.controller.restart();
    await on.create({ name: 'no-list' });
    expect(outcomeOf(await on.released('no-list'))).toBe('False');
    expect(await on.log('no-list')).toMatch(
      /The list of build hosts \(ConfigMap host-config\) cannot be used: it is not there/,
    );
    await list(() => ({ 'host.a.address': '!' }));
    await its.metricIs('config_errors', 2);
    await on.create({ name: 'bad-list' });
    expect(outcomeOf(await on.released('bad-list'))).toBe('False');
    expect(await on.log('bad-list')).toContain('nothing in it can be used');

    await list();
    await its.metricIs('config_errors', 0);
    await on.create({ name: 'first-list' });
    expect(outcomeOf(await on.released('first-list'))).toBe('True');
    expect(await on.leftInCluster()).toEqual([]);
  });
});

describe('a TaskRun that waits', () => {
  const drained: Change = (data) =>
    Object.fromEntries(
      Object.entries(data).map(([key, value]) => [key, key.endsWith('.concurrency') ? '0' : value] as const),
    );

  test("for longer than wait-timeout says is told so; the platform's own limit comes before that for all", async () => {
    await list((data) => ({ ...drained(data), 'wait-timeout': '300s', 'wait-timeout.linux-arm64': '2s' }));
    await its.metricIs('host_slots', 0, '{host="a",platform="linux-arm64"}');
    await on.create({ name: 'waits-too-long' });
    expect(outcomeOf(await on.released('waits-too-long'))).toBe('False');
    expect(await on.log('waits-too-long')).toContain('No build host for "linux/arm64" became free within 2 s');
  });

  test("says so where no host can be used; a typo in each host's entry does not fail it, and neither does a restart", async () => {
    const typo: Change = (data) =>
      Object.fromEntries(
        Object.entries(data).map(([key, value]) => [key, key.endsWith('.address') ? 'typo!' : value] as const),
      );
    await list((data) => ({ ...drained(data), 'local-platforms': 'linux/x86_64' }));
    await its.metricIs('host_slots', 0, '{host="a",platform="linux-arm64"}');
    await on.create({ name: 'waits-for-anybody' });
    await on.waiting('waits-for-anybody');
    const isTold = async (why: RegExp): Promise<unknown> =>
      await until(
        `an Event like ${why}`,
        async () => (await on.events('waits-for-anybody')).find(({ message }) => why.test(message ?? '')) ?? null,
      );
    await isTold(/number 1 in the queue; none can be used now: a: it is drained; b: it is drained; c: it is drained$/);
    await list((data) => ({ ...typo(data), 'local-platforms': 'linux/x86_64' }));
    await its.metricIs('config_errors', 3);
    await sandbox.controller.restart();
    await isTold(/number 1 in the queue; none can be used now: a: its entry in the list of hosts is wrong; /);
    await list();
    expect(outcomeOf(await on.released('waits-for-anybody'))).toBe('True');
  });

  test('with a limit of many years costs nothing meanwhile, and is served when a host is', async () => {
    await list((data) => ({ ...drained(data), 'wait-timeout': '999999h' }));
    await on.create({ name: 'waits-for-years' });
    await on.waiting('waits-for-years');
    const before = (await its.metric('reconcile_seconds_count')) ?? 0;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(((await its.metric('reconcile_seconds_count')) ?? 0) - before).toBeLessThan(5);
    await list();
    expect(outcomeOf(await on.released('waits-for-years'))).toBe('True');
  });
});
