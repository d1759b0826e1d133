import { readFile } from 'node:fs/promises';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { Sandbox, SandboxOptions } from '#sandbox/sandbox.ts';
import type { Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { FINALIZER, LABEL, SECRET_PREFIX } from '#shared/names.ts';

import { collectKeys, type KeyCollector } from './key-collector.ts';
import { ARM, BUILDS, builds, leftOnHosts, outcomeOf, until, watchAccounts } from './builds.ts';

export type SuiteOptions = Omit<SandboxOptions, 'env' | 'progress'>;

const OPTIONS = {
  hosts: ['a', 'b', 'c'].map((name) => ({ name, platform: ARM, slots: 4 })),
  localPlatforms: ['linux/x86_64'],
  auditLog: true,
  controllerArgs: ['--scan-interval', '5s'],
} satisfies SuiteOptions;

/** The life of TaskRuns, end to end, wherever the two processes come from: `start` gives a sandbox in which they are ready. */
export function controllerSuite(
  start: (options: SuiteOptions) => Promise<Sandbox>,
  { load = 60 }: { readonly load?: number } = {},
): void {
  let sandbox: Sandbox;
  let on: ReturnType<typeof builds>;
  let keys: KeyCollector;

  beforeAll(async () => {
    sandbox = await start(OPTIONS);
    on = builds(sandbox);
    keys = await collectKeys(sandbox.client);
    await sandbox.createNamespace(BUILDS);
  });

  afterAll(async () => {
    await keys?.stop();
    await sandbox?.stop();
  });

  test(`${load} TaskRuns on 3 hosts of 4 slots: all succeed, no host ever has more than 4 accounts, and nothing is left`, async () => {
    const watches = sandbox.hosts.map(watchAccounts);
    const names = Array.from({ length: load }, (_, index) => `load-${index}`);
    await Promise.all(names.map((name) => on.create({ name })));
    const ended = await Promise.all(names.map((name) => on.released(name)));
    expect(ended.map(outcomeOf)).toEqual(names.map(() => 'True'));
    const most = await Promise.all(watches.map((watch) => watch.stop()));
    for (const count of most) {
      expect(count).toBeLessThanOrEqual(4);
      expect(count).toBeGreaterThan(1);
    }
    expect(await leftOnHosts(sandbox.hosts)).toEqual([]);
    expect(await on.leftInCluster()).toEqual([]);
  });

  test('a TaskRun costs at most 5 writes without waiting and 6 with, and no list', async () => {
    const before = (await auditLines(sandbox)).length;
    const alone = await on.create({ name: 'count-alone' });
    await on.released('count-alone');
    const many = Array.from({ length: 20 }, (_, index) => `count-${index}`);
    await Promise.all(many.map((name) => on.create({ name })));
    await Promise.all(many.map((name) => on.released(name)));
    const requests = (await auditLines(sandbox))
      .slice(before)
      .filter(({ userAgent }) => userAgent === 'multi-platform-controller/controller');
    const ours = requests.filter(
      ({ objectRef }) => objectRef?.resource !== 'leases' && objectRef?.resource !== 'events',
    );
    // The scan for TaskRuns that the webhook missed asks for those without our label; it has its own pace.
    const isScan = ({ requestURI }: AuditLine): boolean => requestURI.includes('labelSelector=%21');
    // Where the watch on the admins' keys fell behind it begins anew.
    const isOwn = ({ objectRef }: AuditLine): boolean => objectRef?.namespace === sandbox.namespace;
    expect(ours.filter((line) => line.verb === 'list' && !isScan(line) && !isOwn(line))).toEqual([]);
    const writesOf = (name: string) =>
      ours.filter(({ verb, objectRef, responseStatus }) => {
        const isOfIt = [name, `${name}-pod`, SECRET_PREFIX + name].includes(objectRef?.name ?? '');
        return isOfIt && verb !== 'get' && responseStatus?.code !== 409;
      });
    expect(alone.metadata.name).toBe('count-alone');
    expect(writesOf('count-alone').map(({ verb, objectRef }) => `${verb} ${objectRef?.resource}`)).toEqual([
      'patch taskruns',
      'create secrets',
      'patch pods',
      'delete secrets',
      'patch taskruns',
    ]);
    for (const name of many) expect(writesOf(name).length).toBeLessThanOrEqual(6);
  });

  describe('the Secret', () => {
    test('of a TaskRun with a host has key, host, home and known hosts, belongs to the TaskRun and is gone at the end', async () => {
      const created = await on.create({ name: 'secret-login', remote: 'sleep 2' });
      await on.running('secret-login');
      const secret = await on.secret('secret-login');
      const data = decode(secret);
      expect(Object.keys(data).toSorted()).toEqual(['host', 'id_rsa', 'known_hosts', 'user-dir']);
      expect(data.host).toMatch(/^u-[0-9a-f]{28}@10\./);
      expect(data['user-dir']).toBe(`/home/${data.host?.split('@')[0]}`);
      expect(data.id_rsa).toMatch(/^-----BEGIN OPENSSH PRIVATE KEY-----/);
      expect(secret?.metadata.ownerReferences?.[0]?.uid).toBe(created.metadata.uid);
      await on.released('secret-login');
      expect(await on.secret('secret-login')).toBeNull();
    });

    test.each([
      [
        'a platform that nobody has',
        'linux/riscv64',
        /No build host is configured for the platform "linux\/riscv64".*linux\/arm64/,
      ],
      ['a malformed platform', 'Linux/ARM64!', /"Linux\/ARM64!", which is not a platform.*linux\/arm64/],
      ['a platform as a list', ['linux/arm64'], /a list or an object, which is not a platform/],
    ])('of %s says what is wrong and what would be right', async (what, platform, message) => {
      const name = `error-${what.replaceAll(/[^a-z]/g, '-')}`;
      await on.create({ name, platform });
      const ended = await on.released(name);
      expect(outcomeOf(ended)).toBe('False');
      expect(await on.log(name)).toMatch(message);
      expect(await on.leftInCluster()).toEqual([]);
    });

    test('of a local platform says localhost', async () => {
      await on.create({ name: 'local', platform: 'linux/x86_64' });
      const ended = await on.released('local');
      expect(outcomeOf(ended)).toBe('True');
      expect(await on.log('local')).toContain('local');
    });

    test('that is there already and is not ours is neither touched nor used', async () => {
      const foreign = await sandbox.client.create<Secret>(PATH.secrets(BUILDS), {
        metadata: { name: `${SECRET_PREFIX}foreign` },
        stringData: { error: 'somebody else wrote this\n' },
      });
      await on.create({ name: 'foreign' });
      const ended = await on.released('foreign');
      expect(outcomeOf(ended)).toBe('False');
      expect(await on.log('foreign')).toContain('somebody else wrote this');
      const after = await on.secret('foreign');
      expect(after?.metadata.resourceVersion).toBe(foreign.metadata.resourceVersion);
      expect((await on.events('foreign')).map(({ reason }) => reason)).toContain('SecretNotOurs');
      expect(await leftOnHosts(sandbox.hosts)).toEqual([]);
      await sandbox.client.delete(PATH.secrets(BUILDS, `${SECRET_PREFIX}foreign`));
    });
  });

  describe('a TaskRun that is', () => {
    test('cancelled while it runs loses account, processes and Secret', async () => {
      await on.create({ name: 'cancelled', remote: 'nohup sleep 1000 >/dev/null 2>&1 & sleep 1000' });
      await on.running('cancelled');
      await on.cancel('cancelled');
      await on.released('cancelled');
      expect(await on.leftInCluster()).toEqual([]);
      expect(await leftOnHosts(sandbox.hosts)).toEqual([]);
    });

    test('deleted while it runs is gone once its account is', async () => {
      await on.create({ name: 'deleted', remote: 'sleep 1000' });
      await on.running('deleted');
      await on.delete('deleted');
      await on.gone('deleted');
      expect(await leftOnHosts(sandbox.hosts)).toEqual([]);
      expect(await on.secret('deleted')).toBeNull();
    });

    test('deleted while it waits leaves the queue, and the next one is served', async () => {
      const blockers = Array.from({ length: 12 }, (_, index) => `blocker-${index}`);
      await Promise.all(blockers.map((name) => on.create({ name, remote: 'sleep 1000' })));
      await Promise.all(blockers.map((name) => on.running(name)));
      await on.create({ name: 'waits-first' });
      await on.waiting('waits-first');
      await on.create({ name: 'waits-second' });
      await on.waiting('waits-second');
      const said = 'waits for a host for linux/arm64: number 2 in the queue';
      await until('the Event to say so', async () =>
        (await on.events('waits-second')).some(({ message }) => message === said) ? true : null,
      );
      await on.delete('waits-first');
      await on.gone('waits-first');
      await on.cancel('blocker-0');
      const ended = await on.released('waits-second');
      expect(outcomeOf(ended)).toBe('True');
      await Promise.all(blockers.map((name) => on.delete(name)));
      await Promise.all(blockers.map((name) => on.gone(name)));
      expect(await leftOnHosts(sandbox.hosts)).toEqual([]);
    });

    test('deleted and created again at once by the same name gets an account of its own', async () => {
      await on.create({ name: 'again', remote: 'sleep 1000' });
      await on.running('again');
      const first = decode(await on.secret('again')).host;
      await on.delete('again');
      await on.gone('again');
      await on.create({ name: 'again' });
      await on.running('again');
      const second = decode(await on.secret('again')).host;
      expect(second?.split('@')[0]).not.toBe(first?.split('@')[0]);
      const ended = await on.released('again');
      expect(ended.status?.conditions).toMatchObject([{ status: 'True' }]);
    });

    test('not ours, because it mounts no Secret of ours, is unmarked again', async () => {
      const spec = {
        taskSpec: { params: [{ name: 'PLATFORM' }], steps: [{ name: 's', image: 'not-pulled', script: 'sleep 1' }] },
      };
      const created = await on.create({ name: 'not-ours', spec });
      expect(created.metadata.finalizers).toContain(FINALIZER);
      const after = await until('it to be unmarked', async () => {
        const found = await on.get('not-ours');
        return found?.metadata.finalizers === undefined ? found : null;
      });
      expect(after?.metadata.labels?.[LABEL.targetPlatform]).toBeUndefined();
    });

    test('created while the webhook is down still gets its host', async () => {
      await sandbox.webhook.kill();
      const created = await on.create({ name: 'unmarked' });
      expect(created.metadata.finalizers).toBeUndefined();
      await sandbox.controller.restart();
      expect(outcomeOf(await on.released('unmarked'))).toBe('True');
      await sandbox.webhook.start();
    });
  });

  test('no key that was ever made is in a log, an Event or a metric', async () => {
    const texts = [
      await sandbox.controller.log(),
      await sandbox.webhook.log(),
      await sandbox.controller.metrics(),
      JSON.stringify(await sandbox.client.list(PATH.events())),
    ];
    // The load alone is one key each.
    expect(keys.count).toBeGreaterThan(load);
    const lines = keys.secretLines();
    expect(lines.length).toBeGreaterThan(keys.count);
    for (const text of texts) {
      expect(lines.filter((line) => text.includes(line))).toEqual([]);
      expect(text.length).toBeGreaterThan(100);
      expect(text).not.toMatch(/PRIVATE KEY|b3BlbnNzaC1rZXktdjE|LS0tLS1CRUdJTi/);
    }
  });
}

function decode(secret: Secret | null): Record<string, string> {
  return Object.fromEntries(
    Object.entries(secret?.data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]),
  );
}

export interface AuditLine {
  requestURI: string;
  verb: string;
  userAgent?: string;
  user?: { username?: string };
  objectRef?: { resource?: string; name?: string; namespace?: string };
  responseStatus?: { code?: number };
  stage: string;
}

/** Requests that have been answered, as the audit log has them. */
export async function auditLines(sandbox: Sandbox): Promise<AuditLine[]> {
  const text = await readFile(sandbox.controlPlane.auditLogPath ?? '', 'utf8');
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map((line) => JSON.parse(line) as AuditLine).filter(({ stage }) => stage === 'ResponseComplete');
}
