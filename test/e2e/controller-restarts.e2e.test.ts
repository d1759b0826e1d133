import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, expect, test, vi } from 'vitest';

import type { ManagedProcess } from '#sandbox/managed-process.ts';
import type { Sandbox } from '#sandbox/sandbox.ts';
import { ANNOTATION, FINALIZER, LABEL } from '#shared/names.ts';

import { ARM, builds, leftOnHosts, outcomeOf, until, watchAccounts, type BuildTaskRun } from './support/builds.ts';
import { controllerOf, startWithBuilds } from './support/controlled.ts';

const SLOTS = 4;

// Each start of a controller takes seconds on a busy machine, and there are many.
vi.setConfig({ testTimeout: 240_000 });

let sandbox: Sandbox;
let on: ReturnType<typeof builds>;
let its: ReturnType<typeof controllerOf>;

beforeAll(async () => {
  sandbox = await startWithBuilds({
    hosts: ['a', 'b', 'c'].map((name) => ({ name, platform: ARM, slots: SLOTS })),
    auditLog: true,
    controllerArgs: ['--scan-interval', '2s'],
  });
  on = builds(sandbox);
  its = controllerOf(sandbox);
});

afterAll(async () => {
  await sandbox?.stop();
});

const namesOf = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `${prefix}-${index}`);

const createAll = async (names: readonly string[], remote?: string): Promise<unknown> =>
  await Promise.all(names.map((name) => on.create({ name, ...(remote !== undefined && { remote }) })));

const outcomesOf = async (names: readonly string[]): Promise<Set<string>> =>
  new Set((await Promise.all(names.map((name) => on.released(name)))).map(outcomeOf));

const WELL = new Set(['True']);

/** In the cluster, on the hosts, in the ledger. */
const left = async (): Promise<unknown[]> => [
  ...(await on.leftInCluster()),
  ...(await leftOnHosts(sandbox.hosts)),
  ...(await its.debts()),
];

/** Runs `work` and checks meanwhile, on the hosts themselves, that none has more accounts than slots. */
async function withinSlots(work: () => Promise<void>): Promise<void> {
  const watches = sandbox.hosts.map(watchAccounts);
  try {
    await work();
  } finally {
    const most = await Promise.all(watches.map((watch) => watch.stop()));
    for (const count of most) expect(count).toBeLessThanOrEqual(SLOTS);
  }
}

test('killed at any moment while 40 TaskRuns are under way: all of them end well, no host is ever over its slots, nothing is left', async () => {
  await withinSlots(async () => {
    const names = namesOf('killed', 40);
    await createAll(names);
    for (let kill = 0; kill < 8; kill++) {
      // From before the first list is in to the middle of the load.
      await sleep(Math.random() * 1200);
      await its.kill();
      await (kill % 2 === 0 ? sandbox.controller.start() : sandbox.controller.launch());
    }
    await sandbox.controller.start();
    expect(await outcomesOf(names)).toEqual(WELL);
  });
  expect(await left()).toEqual([]);
});

test('the API server goes and comes back under load', async () => {
  await withinSlots(async () => {
    const names = namesOf('server', 20);
    await createAll(names);
    await sleep(700);
    await sandbox.controlPlane.killApiServer();
    await sleep(2000);
    await sandbox.controlPlane.restartApiServer();
    // It may have lost the lease meanwhile; then whoever runs it starts it again.
    if (sandbox.controller.pid === 0) await sandbox.controller.start();
    expect(await outcomesOf(names)).toEqual(WELL);
  });
  expect(await left()).toEqual([]);
});

test('the webhook goes and comes back, with TaskRuns in every state', async () => {
  const running = namesOf('switch-running', 12);
  await createAll(running, 'sleep 8; echo built');
  await Promise.all(running.map((name) => on.running(name)));
  await on.create({ name: 'switch-waiting' });
  await on.waiting('switch-waiting');
  await on.create({ name: 'switch-refused', platform: 'linux/riscv64', remote: 'true' });
  await sandbox.webhook.kill();
  await sandbox.controller.stop();
  const unmarked = await on.create({ name: 'switch-while-both-are-down' });
  expect(unmarked.metadata.finalizers).toBeUndefined();

  await sandbox.controller.start(['--webhook', 'off']);
  const off = await on.create({ name: 'switch-off' });
  expect(off.metadata.finalizers).toBeUndefined();
  const deleted = await on.create({ name: 'switch-off-deleted' });
  await on.waiting('switch-off');
  await on.delete(deleted.metadata.name);
  await on.gone(deleted.metadata.name);
  const marked = await on.get('switch-off');
  expect(marked?.metadata.finalizers).toContain(FINALIZER);

  await sandbox.webhook.start();
  await sandbox.controller.restart();
  const back = await on.create({ name: 'switch-back' });
  expect(back.metadata.finalizers).toContain(FINALIZER);
  expect(
    await outcomesOf([...running, 'switch-waiting', 'switch-while-both-are-down', 'switch-off', 'switch-back']),
  ).toEqual(WELL);
  expect(outcomeOf(await on.released('switch-refused'))).toBe('False');
  expect(await left()).toEqual([]);
});

test('told to stop while a host hangs, it does not wait for it, and blames no host for what it cut off', async () => {
  const [hung] = sandbox.hosts;
  const names = namesOf('cut-off', 3);
  await hung?.setHung(true);
  try {
    await createAll(names);
    await until('each host to have one', async () => {
      const found = await Promise.all(names.map((name) => on.get(name)));
      return found.every((build) => build?.metadata.labels?.[LABEL.assignedHost] !== undefined) ? true : null;
    });
    const startMs = Date.now();
    expect(await sandbox.controller.stop()).toBe(0);
    expect(Date.now() - startMs).toBeLessThan(4000);
  } finally {
    await hung?.setHung(false);
  }
  await sandbox.controller.start();
  expect(await outcomesOf(names)).toEqual(WELL);
  const ended = await Promise.all(names.map((name) => on.get(name)));
  expect(ended.map((build) => build?.metadata.annotations?.[ANNOTATION.failedHosts])).toEqual(
    names.map(() => undefined),
  );
  expect(await left()).toEqual([]);
});

test('of two controllers one acts; SIGTERM hands over in under 2 s; who was frozen for longer than the lease writes nothing', async () => {
  const standby = await sandbox.addProcess('controller', 'standby');
  const kubeconfig = await sandbox.controlPlane.kubeconfigFor({ user: 'standby', groups: ['system:masters'] });
  await standby.launch(['--kubeconfig', kubeconfig]);
  await says(standby, 'stands by');
  expect(await outcomesOf((await createdNames('two', 6)).map(({ metadata }) => metadata.name))).toEqual(WELL);
  expect(await standby.log()).not.toContain('"msg":"leads"');

  const handed = namesOf('handed', 16);
  await createAll(handed);
  await sleep(300);
  const beforeMs = Date.now();
  const code = await sandbox.controller.stop();
  expect(code).toBe(0);
  const leadsAt = await says(standby, '"msg":"leads"');
  expect(Date.parse(leadsAt) - beforeMs).toBeLessThan(2000);
  expect(await outcomesOf(handed)).toEqual(WELL);

  // The other way round, by force: the one that leads now is frozen.
  await sandbox.controller.launch();
  await says(sandbox.controller, 'stands by');
  const frozen = namesOf('frozen', 16);
  await createAll(frozen);
  await until('some of them to have a host', async () => {
    const found = await Promise.all(frozen.map((name) => on.secret(name)));
    return found.some((secret) => secret !== null) ? true : null;
  });
  standby.pause();
  const linesBefore = (await sandbox.controller.log()).split('\n').length;
  await until('the other one to lead', async () => {
    const lines = (await sandbox.controller.log()).split('\n').slice(linesBefore - 1);
    return lines.some((line) => line.includes('"msg":"leads"')) ? true : null;
  });
  await sleep(3000);
  const wokenAt = Date.now();
  standby.resume();
  await until('the frozen one to exit', async () => (standby.pid === 0 ? true : null), 5000);
  expect((await standby.log()).trimEnd().split('\n').at(-1)).toContain('lost the lease: exits');
  expect(await outcomesOf(frozen)).toEqual(WELL);
  expect(await writesOf('standby', wokenAt)).toEqual([]);
  expect(await left()).toEqual([]);
});

async function createdNames(prefix: string, count: number): Promise<BuildTaskRun[]> {
  return await Promise.all(namesOf(prefix, count).map((name) => on.create({ name })));
}

/** Waits for a line of its log with `text`, and gives the line's time. */
async function says(controller: ManagedProcess, text: string): Promise<string> {
  const line = await until(`${controller.name} to say ${text}`, async () => {
    const lines = (await controller.log()).split('\n');
    return lines.find((candidate) => candidate.includes(text)) ?? null;
  });
  return (JSON.parse(line) as { time: string }).time;
}

/** What a user's controller has written since `afterMs`. */
async function writesOf(user: string, afterMs: number): Promise<string[]> {
  const text = await readFile(sandbox.controlPlane.auditLogPath ?? '', 'utf8');
  const lines = text
    .split('\n')
    .filter((line) => line !== '')
    .map(
      (line) =>
        JSON.parse(line) as {
          stage: string;
          verb: string;
          requestURI: string;
          requestReceivedTimestamp: string;
          user?: { username?: string };
        },
    );
  expect(lines.some((line) => line.user?.username === user && line.verb === 'patch')).toBe(true);
  return lines
    .filter((line) => line.user?.username === user && Date.parse(line.requestReceivedTimestamp) > afterMs)
    .filter(({ verb }) => !['get', 'list', 'watch'].includes(verb))
    .map(({ verb, requestURI }) => `${verb} ${requestURI}`);
}
