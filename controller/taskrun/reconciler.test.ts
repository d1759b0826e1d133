import { describe, expect, test } from 'vitest';

import { AppError } from '#shared/errors.ts';
import { KubeError } from '#shared/kubernetes/errors.ts';
import type { Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { ANNOTATION, FINALIZER, LABEL, secretName } from '#shared/names.ts';

import { HOST_ERROR, HostError } from '../host/contract.ts';
import {
  ARM,
  createCluster,
  NAMESPACE,
  pathOf,
  secretPathOf,
  settle,
  type Cluster,
  type Intercept,
} from './reconciler.testing.ts';

/** Fails the requests of `verb` to a path that ends so, as many as there are errors. */
function failing(verb: string, end: string, ...errors: (Error & { isDone?: boolean })[]): Intercept {
  return async (request) => {
    const where = 'path' in request ? request.path : request.host;
    const isMeant = request.verb === verb && where.endsWith(end) && !('dryRun' in request && request.dryRun);
    const error = isMeant ? errors.shift() : undefined;
    return error === undefined ? null : { isDone: error.isDone === true, error };
  };
}

const answered = (status: number, reason: string): KubeError => new KubeError('POST', status, { reason });
const noAnswer = (isDone: boolean): Error =>
  Object.assign(new AppError('kubernetes.unreachable', 'no answer'), { isDone });

const dataOf = (cluster: Cluster, name: string): Record<string, string> | undefined =>
  (cluster.server.find(secretPathOf(name)) as Secret | undefined)?.stringData;

const marksOf = (cluster: Cluster, name: string) => {
  const { labels = {}, finalizers = [] } = cluster.server.find(pathOf(name))?.metadata ?? {};
  return { host: labels[LABEL.assignedHost], waits: labels[LABEL.waitingForPlatform] !== undefined, finalizers };
};

async function resolved(cluster: Cluster, ...names: string[]): Promise<void> {
  for (const name of names) {
    cluster.create(name);
    cluster.resolve(name);
    await settle();
  }
}

async function step(cluster: Cluster, ms: number): Promise<void> {
  cluster.clock.step(ms);
  await settle();
}

describe('a TaskRun that is not ours any more', () => {
  const changes = {
    'loses the volume': { status: { taskSpec: { volumes: [] } } },
    'loses PLATFORM': { spec: { params: [] } },
  };

  test.each(Object.entries(changes))('since it %s gives slot, account and Secret back', async (_how, change) => {
    const cluster = createCluster({ slots: { a: 1 } });
    const { pool } = cluster.start();
    await resolved(cluster, 'first', 'second');
    expect(marksOf(cluster, 'first').host).toBe('a');
    expect(pool.waiting(ARM)).toBe(1);
    cluster.server.patch(pathOf('first'), change);
    await settle();
    expect(cluster.server.find(secretPathOf('first'))).toBeUndefined();
    expect(marksOf(cluster, 'first')).toEqual({ host: undefined, waits: false, finalizers: [] });
    expect(dataOf(cluster, 'second')?.host).toMatch(/@a$/);
    expect(cluster.fleet.of('a').size).toBe(1);
  });

  test.each(Object.entries(changes))('since it %s gives its place in the queue back', async (_how, change) => {
    const cluster = createCluster({ slots: { a: 1 } });
    const { pool } = cluster.start();
    await resolved(cluster, 'first', 'second');
    cluster.server.patch(pathOf('second'), change);
    await settle();
    expect(pool.waiting(ARM)).toBe(0);
    expect(marksOf(cluster, 'second').finalizers).toEqual([]);
  });

  test('gives back a slot whose Secret is not made yet', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    const { pool } = cluster.start({
      intercept: failing('create', secretName('first'), answered(500, 'InternalError')),
    });
    await resolved(cluster, 'first');
    expect(cluster.fleet.of('a').size).toBe(1);
    cluster.server.patch(pathOf('first'), changes['loses the volume']);
    await settle();
    expect(cluster.fleet.of('a').size).toBe(0);
    expect(pool.holdersOf('a').size).toBe(0);
  });
});

describe('creating the Secret is answered', () => {
  test('409 for another reason than that it is there: it is tried again', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    const { events } = cluster.start({ intercept: failing('create', secretName('one'), answered(409, 'Conflict')) });
    await resolved(cluster, 'one');
    expect(dataOf(cluster, 'one')).toBeUndefined();
    await step(cluster, 1000);
    expect(dataOf(cluster, 'one')?.host).toMatch(/@a$/);
    expect(events.map(({ kind }) => kind)).toEqual(['assigned', 'ready']);
  });

  test('403: that is said once, and tried again until it is let through', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    const quota = Array.from({ length: 4 }, () => answered(403, 'Forbidden'));
    const { events } = cluster.start({ intercept: failing('create', secretName('one'), ...quota) });
    await resolved(cluster, 'one');
    for (let count = 0; count < 4; count++) await step(cluster, 30_000);
    expect(events.map(({ kind }) => kind)).toEqual(['assigned', 'secretRefused', 'ready']);
    expect(cluster.fleet.of('a').size).toBe(1);
  });

  test('409 though nobody answered before: it is ours', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    const { events } = cluster.start({ intercept: failing('create', secretName('one'), noAnswer(true)) });
    await resolved(cluster, 'one');
    await step(cluster, 1000);
    expect(events.map(({ kind }) => kind)).toEqual(['assigned', 'ready']);
    cluster.complete('one');
    await settle();
    expect(cluster.server.all('secrets')).toEqual([]);
    expect(marksOf(cluster, 'one').finalizers).toEqual([]);
  });

  test('409 since somebody else made it: it is left alone, and the host as well', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    const { events, pool } = cluster.start();
    const foreign = cluster.server.create(PATH.secrets(NAMESPACE), { metadata: { name: secretName('one') } });
    await resolved(cluster, 'one');
    expect(events.map(({ kind }) => kind)).toEqual(['assigned', 'foreignSecret']);
    expect(cluster.fleet.of('a').size + pool.holdersOf('a').size).toBe(0);
    cluster.complete('one');
    await settle();
    expect(cluster.server.find(secretPathOf('one'))).toEqual(foreign);
    expect(marksOf(cluster, 'one').finalizers).toEqual([]);
  });
});

describe('what was prepared is handed over, whatever happens meanwhile:', () => {
  test('a refusal does not become a host', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    cluster.setHosts({ a: 1 }, { 'wait-timeout.linux-arm64': '10s' });
    const { pool, events } = cluster.start({
      intercept: failing('create', secretName('late'), answered(500, 'InternalError')),
    });
    await resolved(cluster, 'first', 'late');
    await step(cluster, 10_001);
    expect(cluster.server.find(secretPathOf('late'))).toBeUndefined();
    cluster.complete('first');
    await settle();
    await step(cluster, 1000);
    expect(Object.keys(dataOf(cluster, 'late') ?? {})).toEqual(['error']);
    expect(pool.holdersOf('a').size + pool.waiting(ARM)).toBe(0);
    const kinds = events.filter(({ name }) => name === 'late').map(({ kind }) => kind);
    expect(kinds).toEqual(['waiting', 'refused']);
  });

  test('a place in its own Pod does not become a host', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    cluster.setHosts({ a: 1 }, { 'local-platforms': ARM });
    const { pool, offer } = cluster.start({
      intercept: failing('create', secretName('one'), answered(500, 'InternalError')),
    });
    await resolved(cluster, 'one');
    cluster.setHosts({ a: 1 });
    offer();
    await settle();
    await step(cluster, 1000);
    expect(dataOf(cluster, 'one')).toEqual({ host: 'localhost' });
    expect(pool.holdersOf('a').size).toBe(0);
  });

  test('an account on a host does not become a place in its own Pod', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    const { pool, offer } = cluster.start({
      intercept: failing('create', secretName('one'), answered(500, 'InternalError')),
    });
    await resolved(cluster, 'one');
    cluster.setHosts({ a: 1 }, { 'local-platforms': ARM });
    offer();
    await settle();
    await step(cluster, 1000);
    expect(dataOf(cluster, 'one')?.host).toMatch(/@a$/);
    expect(pool.holdersOf('a').size).toBe(1);
    expect(cluster.fleet.of('a').size).toBe(1);
  });
});

describe('a host that is taken off the list', () => {
  test('gets no account for a TaskRun that was assigned to it just before', async () => {
    const cluster = createCluster({ slots: { a: 2, b: 1 } });
    let isHeld = true;
    const held = Promise.withResolvers<void>();
    const { offer, events, pool } = cluster.start({
      intercept: async ({ verb }) => {
        if (verb === 'createAccount' && isHeld) await held.promise;
        return null;
      },
    });
    await resolved(cluster, 'one');
    expect(marksOf(cluster, 'one').host).toBe('a');
    cluster.setHosts({ b: 1 });
    offer();
    isHeld = false;
    held.resolve();
    await settle();
    expect(dataOf(cluster, 'one')?.host).toMatch(/@b$/);
    expect(cluster.fleet.of('a').size + pool.holdersOf('a').size).toBe(0);
    expect(events.map(({ kind }) => kind)).toEqual(['assigned', 'hostFailed', 'assigned', 'ready']);
  });

  test.each([{ b: 1 }, { a: 0, b: 1 }])(
    'or drained, while no process ran, keeps only those that have their Secret (%j)',
    async (slots) => {
      const cluster = createCluster({ slots: { a: 2 } });
      const first = cluster.start({ intercept: failing('create', secretName('two'), noAnswer(false)) });
      await resolved(cluster, 'one', 'two');
      expect(cluster.fleet.of('a').size).toBe(2);
      first.die();
      cluster.setHosts(slots);
      const { pool } = cluster.start();
      await settle();
      expect(dataOf(cluster, 'one')?.host).toMatch(/@a$/);
      expect(dataOf(cluster, 'two')?.host).toMatch(/@b$/);
      expect(cluster.fleet.of('a').size).toBe(1);
      expect(pool.holdersOf('a').size).toBe(1);
      for (const name of ['one', 'two']) cluster.complete(name);
      await settle();
      expect(cluster.fleet.of('a').size + cluster.fleet.of('b').size).toBe(0);
    },
  );

  test('while an account that an earlier process made may be on it, owes that account', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    const first = cluster.start({ intercept: failing('create', secretName('one'), noAnswer(false)) });
    await resolved(cluster, 'one');
    first.die();
    const { uid } = cluster.server.find(pathOf('one'))?.metadata ?? {};
    const failure = new HostError(HOST_ERROR.unreachable, 'no route to it');
    cluster.start({ intercept: failing('createAccount', 'a', failure) });
    await settle();
    expect(cluster.fleet.debts).toMatchObject([{ host: 'a', taskRunUid: uid }]);
  });
});

describe('after a restart', () => {
  test('one that was refused has its Secret once, with the message that was written', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    const first = cluster.start({ intercept: failing('create', secretName('bad'), noAnswer(true)) });
    cluster.create('bad', {}, 'linux/s390x');
    cluster.resolve('bad');
    await settle();
    const before = dataOf(cluster, 'bad');
    first.die();
    const second = cluster.start();
    await settle();
    expect(dataOf(cluster, 'bad')).toEqual(before);
    expect(second.events).toEqual([]);
    cluster.complete('bad');
    await settle();
    expect(cluster.server.all('secrets')).toEqual([]);
  });

  test('one that was refused before its Secret was made gets a host where there is one now', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    const first = cluster.start({ intercept: failing('create', secretName('one'), noAnswer(false)) });
    cluster.create('one', {}, 'linux/s390x');
    cluster.resolve('one');
    await settle();
    expect(cluster.server.find(pathOf('one'))?.metadata.annotations?.[ANNOTATION.error]).toContain('linux/s390x');
    first.die();
    cluster.setHosts({ a: 1 }, { 'local-platforms': 'linux/s390x' });
    cluster.start();
    await settle();
    expect(dataOf(cluster, 'one')).toEqual({ host: 'localhost' });
    expect(cluster.server.find(pathOf('one'))?.metadata.annotations?.[ANNOTATION.error]).toBeUndefined();
  });

  test('one that has its account is left on its host, though its platform is a local one now', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    const first = cluster.start();
    await resolved(cluster, 'one');
    first.die();
    cluster.setHosts({ a: 1 }, { 'local-platforms': ARM });
    const { pool } = cluster.start();
    await settle();
    expect(pool.holdersOf('a').size).toBe(1);
    expect(marksOf(cluster, 'one').host).toBe('a');
    expect(cluster.fleet.of('a').size).toBe(1);
  });

  test('a Secret that somebody put in place of ours is left alone', async () => {
    const cluster = createCluster({ slots: { a: 1 } });
    const first = cluster.start();
    await resolved(cluster, 'one');
    first.die();
    cluster.start();
    await settle();
    cluster.server.delete(secretPathOf('one'));
    const foreign = cluster.server.create(PATH.secrets(NAMESPACE), { metadata: { name: secretName('one') } });
    cluster.complete('one');
    await settle();
    expect(cluster.server.find(secretPathOf('one'))).toEqual(foreign);
    expect(marksOf(cluster, 'one').finalizers).toEqual([]);
  });

  test("one that lost its marks and is gone takes no Secret of the next one's along", async () => {
    const cluster = createCluster({ slots: { a: 2 } });
    const first = cluster.start();
    await resolved(cluster, 'one');
    first.die();
    const removing = Promise.withResolvers<void>();
    cluster.start({
      intercept: async ({ verb }) => {
        if (verb === 'removeAccount') await removing.promise;
        return null;
      },
    });
    await settle();
    cluster.server.patch(pathOf('one'), { metadata: { finalizers: null } });
    cluster.server.delete(pathOf('one'));
    cluster.server.collectGarbage();
    await resolved(cluster, 'one');
    expect(dataOf(cluster, 'one')?.host).toMatch(/@a$/);
    expect(cluster.fleet.of('a').size).toBe(2);
    removing.resolve();
    await settle();
    expect(dataOf(cluster, 'one')?.host).toMatch(/@a$/);
    expect(cluster.fleet.of('a').size).toBe(1);
  });
});

describe('one that neither webhook nor watch saw', () => {
  test('is left alone until it is resolved, and costs 5 writes then', async () => {
    const cluster = createCluster({ slots: { a: 1 }, watchesAll: false });
    const writes: string[] = [];
    const { scan } = cluster.start({
      intercept: async (request) => {
        if ('path' in request && request.verb !== 'get')
          writes.push(`${request.verb} ${request.path.split('/').at(-2)}`);
        return null;
      },
    });
    cluster.create('one');
    scan();
    await settle();
    expect(marksOf(cluster, 'one').finalizers).toEqual([]);
    cluster.resolve('one');
    scan();
    await settle();
    expect(marksOf(cluster, 'one')).toEqual({ host: 'a', waits: false, finalizers: [FINALIZER] });
    cluster.complete('one');
    await settle();
    expect(writes).toEqual(['patch taskruns', 'create secrets', 'patch pods', 'delete secrets', 'patch taskruns']);
  });

  test('that lost its label before it was resolved is found again', async () => {
    const cluster = createCluster({ slots: { a: 1 }, watchesAll: false });
    const { scan } = cluster.start();
    cluster.create('one', { finalizers: [FINALIZER], labels: { [LABEL.targetPlatform]: 'linux-arm64' } });
    await settle();
    cluster.server.patch(pathOf('one'), { metadata: { labels: null } });
    cluster.server.delete(pathOf('one'));
    await settle();
    scan();
    await settle();
    expect(cluster.server.find(pathOf('one'))).toBeUndefined();
  });
});
