import { describe, expect, test } from 'vitest';

import { accountName } from './account-name.ts';
import { HOST_ERROR, HostError } from './contract.ts';
import { setUpFleet, settle, spec, type FleetSetting } from './fleet.testing.ts';
import { LEDGER_NAME, debtKey, type Debt } from './ledger.ts';
import { RECORDS_NAME } from './records.ts';

const MINUTE_MS = 60_000;
const A = spec('a');
const B = spec('b');
const DOWN = new HostError(HOST_ERROR.unreachable, 'no route to it');

function debt(host: string, taskRunUid: string): Debt {
  return { host, taskRunUid, namespace: 'builds', taskRun: 'build', since: '2026-01-01T00:00:00Z' };
}

const remove = async (on: FleetSetting, host: string, uid: string): Promise<void> =>
  await on.fleet.removeAccount(host, accountName(uid), uid);

async function started(...specs: (typeof A)[]): Promise<FleetSetting> {
  const on = await setUpFleet();
  on.list(...specs);
  on.fleet.start();
  await settle();
  return on;
}

/** The record of host a is being removed, until `goOn`, and the host is on the list again. */
async function listedAgainWhileForgotten(): Promise<{ on: FleetSetting; goOn: () => void }> {
  const on = await started(A);
  await on.create('a', 'one');
  await remove(on, 'a', 'one');
  on.holders.clear();
  const open = Promise.withResolvers<void>();
  on.cluster.beforePatch = async () => await open.promise;
  on.list();
  await settle();
  on.list(A);
  const goOn = (): void => {
    on.cluster.beforePatch = async () => {};
    open.resolve();
  };
  return { on, goOn };
}

describe('visiting', () => {
  test('removes accounts of ours that belong to nobody, at the start and every ten minutes, and no other', async () => {
    const on = await setUpFleet();
    on.machine(A.address).add('stray');
    on.machine(A.address).add('live');
    on.holders.set('live', 'a');
    on.list(A, B);
    on.fleet.start();
    await settle();
    expect(on.machine(A.address).tenants).toEqual(['live']);

    on.machine(A.address).add('late');
    on.clock.step(8 * MINUTE_MS);
    await settle();
    expect(on.machine(A.address).tenants).toEqual(['late', 'live']);
    on.clock.step(4 * MINUTE_MS);
    await settle();
    expect(on.machine(A.address).tenants).toEqual(['live']);
    await on.fleet.stop();
  });

  test('an account that cannot be removed keeps neither the other strays nor the host from their turn', async () => {
    const on = await setUpFleet();
    on.machine(A.address).add('stuck');
    on.machine(A.address).add('stray');
    on.machine(A.address).sticking = 'stuck';
    on.list(A);
    on.fleet.start();
    await settle();
    expect(on.machine(A.address).tenants).toEqual(['stuck']);
    expect(on.statuses.get('a')).toMatchObject({ available: true });

    on.machine(A.address).sticking = undefined;
    on.clock.step(2000);
    await settle();
    expect(on.machine(A.address).tenants).toEqual([]);
    await on.fleet.stop();
  });

  const MAY_BE_A_TENANTS_DOING = [
    HOST_ERROR.left,
    HOST_ERROR.busy,
    HOST_ERROR.timeout,
    HOST_ERROR.failed,
    HOST_ERROR.diskFull,
    HOST_ERROR.readOnly,
    HOST_ERROR.foreignAccount,
  ];

  test.each(MAY_BE_A_TENANTS_DOING)('a host whose removals of one account end with %s stays in use', async (code) => {
    const on = await started(A);
    await on.create('a', 'one');
    Object.assign(on.machine(A.address), { sticking: 'one', stuckWith: code });
    await expect(remove(on, 'a', 'one')).rejects.toMatchObject({ code });
    await on.fleet.owe(debt('a', 'one'));
    on.holders.delete('one');
    const said: unknown[] = [on.statuses.get('a')];
    for (let minutes = 0; minutes < 30; minutes++) {
      on.clock.step(MINUTE_MS);
      await settle();
      said.push(on.statuses.get('a'));
    }
    expect(new Set(said)).toEqual(new Set([{ available: true, reason: undefined }]));
    expect(on.ledger.size).toBe(1);
    on.machine(A.address).sticking = undefined;
    on.clock.step(6 * MINUTE_MS);
    await settle();
    expect(on.machine(A.address).tenants).toEqual([]);
    expect(on.ledger.size).toBe(0);
    await on.fleet.stop();
  });

  test.each([HOST_ERROR.interrupted, HOST_ERROR.authentication])(
    'a host whose removals end with %s is out until it has been visited',
    async (code) => {
      const on = await started(A);
      await on.create('a', 'one');
      Object.assign(on.machine(A.address), { sticking: 'one', stuckWith: code });
      await expect(remove(on, 'a', 'one')).rejects.toMatchObject({ code });
      expect(on.statuses.get('a')).toMatchObject({ available: false });
      on.clock.step(2000);
      await settle();
      expect(on.statuses.get('a')).toMatchObject({ available: true });
    },
  );

  test.each([HOST_ERROR.left, HOST_ERROR.busy, HOST_ERROR.foreignAccount])(
    'a host where one account cannot be made because of %s stays in use',
    async (code) => {
      const on = await started(A);
      on.machine(A.address).failure = new HostError(code, 'in the way');
      await expect(on.create('a', 'one')).rejects.toMatchObject({ code });
      expect(on.statuses.get('a')).toMatchObject({ available: true });
    },
  );

  test('an account that takes long to remove does not keep the host from being offered', async () => {
    const on = await setUpFleet();
    on.machine(A.address).add('huge');
    on.machine(A.address).gate = async () => {
      if (on.machine(A.address).calls.at(-1)?.startsWith('remove') === true) await new Promise(() => {});
    };
    on.list(A);
    on.fleet.start();
    await settle();
    expect(on.statuses.get('a')).toMatchObject({ available: true });
  });

  test('a host that answers nothing in time is asked nothing more at that visit', async () => {
    const on = await setUpFleet();
    on.machine(A.address).add('stray');
    on.machine(A.address).ailment = new HostError(HOST_ERROR.timeout, 'no answer in 30 s');
    await on.ledger.put(debtKey(debt('a', 'one')), debt('a', 'one'));
    on.list(A);
    on.fleet.start();
    await settle();
    expect(on.machine(A.address).calls).toEqual(['check']);
    expect(on.statuses.get('a')).toEqual({ available: false, reason: 'no answer in 30 s' });
  });

  test('a host whose disk is full is out, and what a build has left there goes all the same', async () => {
    const on = await setUpFleet();
    on.machine(A.address).add('stray');
    on.machine(A.address).ailment = new HostError(HOST_ERROR.diskFull, 'the disk of the host is full');
    on.list(A);
    on.fleet.start();
    await settle();
    expect(on.statuses.get('a')).toEqual({ available: false, reason: 'the disk of the host is full' });
    expect(on.machine(A.address).tenants).toEqual([]);
    on.machine(A.address).ailment = undefined;
    on.clock.step(2000);
    await settle();
    expect(on.statuses.get('a')).toMatchObject({ available: true });
  });

  test('an account of a TaskRun that is live on another host is a stray', async () => {
    const on = await setUpFleet();
    on.machine(A.address).add('moved');
    on.machine(B.address).add('moved');
    on.holders.set('moved', 'b');
    on.list(A, B);
    on.fleet.start();
    await settle();
    expect(on.machine(A.address).tenants).toEqual([]);
    expect(on.machine(B.address).tenants).toEqual(['moved']);
  });

  test('a host that hangs holds up no other', async () => {
    const on = await setUpFleet();
    on.machine(A.address).gate = async () => await new Promise(() => {});
    on.machine(B.address).add('stray');
    on.list(A, B);
    on.fleet.start();
    await settle();
    expect(on.machine(B.address).tenants).toEqual([]);
    expect(await on.create('b', 'one')).toMatchObject({ address: B.address });
  });

  test('a host is offered after its first visit, and not where that fails', async () => {
    const on = await setUpFleet();
    on.machine(B.address).failure = DOWN;
    on.list(A, B);
    expect([...on.statuses.values()].map(({ available }) => available)).toEqual([false, false]);
    on.fleet.start();
    expect([...on.statuses.values()].map(({ available }) => available)).toEqual([false, false]);
    await settle();
    expect(on.statuses.get('a')?.available).toBe(true);
    expect(on.statuses.get('b')).toEqual({ available: false, reason: 'no route to it' });
    const C = spec('c');
    on.machine(C.address).gate = async () => await new Promise(() => {});
    on.list(A, B, C);
    await settle();
    expect(on.statuses.get('c')).toEqual({ available: false, reason: 'it has not been visited yet' });
  });

  test('a host that fails is out, is tried again after growing pauses, and is back when it answers', async () => {
    const on = await started(A);
    expect(on.statuses.get('a')?.available).toBe(true);
    on.machine(A.address).failure = DOWN;
    await expect(on.create('a', 'one')).rejects.toBe(DOWN);
    expect(on.statuses.get('a')).toEqual({ available: false, reason: 'no route to it' });
    const calls = on.machine(A.address).calls;
    calls.length = 0;
    await settle();
    expect(calls).toEqual([]);
    on.clock.step(2000);
    await settle();
    expect(calls).toEqual(['check']);
    on.clock.step(1000);
    await settle();
    expect(calls).toEqual(['check']);
    on.clock.step(3000);
    await settle();
    expect(calls).toEqual(['check', 'check']);
    on.machine(A.address).failure = undefined;
    on.clock.step(8000);
    await settle();
    expect(on.statuses.get('a')).toEqual({ available: true, reason: undefined });
  });

  test('a corrected key Secret or entry is tried at once, even while the host still hangs', async () => {
    const on = await setUpFleet();
    on.machine(A.address).failure = DOWN;
    on.list(A);
    on.fleet.start();
    await settle();
    expect(on.statuses.get('a')?.available).toBe(false);
    on.machine(A.address).failure = undefined;
    on.fleet.recheck('another-key');
    await settle();
    expect(on.statuses.get('a')?.available).toBe(false);
    on.fleet.recheck('key');
    await settle();
    expect(on.statuses.get('a')?.available).toBe(true);

    on.machine(A.address).failure = DOWN;
    await expect(on.create('a', 'one')).rejects.toBe(DOWN);
    on.machine(A.address).gate = async () => await new Promise(() => {});
    on.clock.step(5000);
    await settle();
    on.list({ ...A, address: B.address });
    await settle();
    expect(on.statuses.get('a')?.available).toBe(true);
  });

  test.each([
    ['address', { address: B.address }],
    ['port', { port: 2222 }],
    ['key', { hostKeys: ['ssh-ed25519 CCCC'] }],
    ['admin', { user: 'builder' }],
    ['key Secret', { secret: 'other-key' }],
  ])('a host with another %s is offered only once it has been visited there', async (_, change) => {
    const on = await started(A);
    const open = Promise.withResolvers<void>();
    for (const address of [A.address, B.address]) on.machine(address).gate = async () => await open.promise;
    on.list({ ...A, ...change });
    expect(on.statuses.get('a')).toEqual({ available: false, reason: 'it has not been visited yet' });
    expect(on.fleet.problemOf('a')).toBe('it has not been visited yet');
    await settle();
    expect(on.statuses.get('a')?.available).toBe(false);
    open.resolve();
    await settle();
    expect(on.statuses.get('a')).toEqual({ available: true, reason: undefined });
    expect(on.fleet.problemOf('a')).toBeUndefined();
  });

  test('a host with another concurrency or platform is offered all the time', async () => {
    const on = await started(A);
    on.machine(A.address).gate = async () => await new Promise(() => {});
    on.list({ ...A, concurrency: 1, platform: 'linux/s390x' });
    await settle();
    expect(on.statuses.get('a')?.available).toBe(true);
  });

  test('stopping ends every pause', async () => {
    const on = await started(A, B);
    on.machine(A.address).failure = DOWN;
    await expect(on.create('a', 'one')).rejects.toBe(DOWN);
    await on.fleet.stop();
  });
});

describe('a debt', () => {
  test('is settled when the host is back, before the host is offered again', async () => {
    const on = await started(A);
    await on.create('a', 'one');
    on.machine(A.address).failure = DOWN;
    await expect(remove(on, 'a', 'one')).rejects.toBe(DOWN);
    await on.fleet.owe(debt('a', 'one'));
    on.holders.delete('one');
    expect(Object.keys(on.cluster.dataOf(LEDGER_NAME))).toEqual([`${accountName('one')}.a`]);
    on.machine(A.address).failure = undefined;
    on.clock.step(2000);
    await settle();
    expect(on.machine(A.address).tenants).toEqual([]);
    expect(on.cluster.dataOf(LEDGER_NAME)).toEqual({});
    expect(on.statuses.get('a')?.available).toBe(true);
  });

  test('of a TaskRun that has found another host leaves its account there alone', async () => {
    const on = await started(A, B);
    on.machine(A.address).failure = new HostError(HOST_ERROR.interrupted, 'lost', { mayHaveActed: true });
    on.machine(A.address).failsLate = true;
    await expect(on.create('a', 'one')).rejects.toThrow('lost');
    await on.fleet.owe(debt('a', 'one'));
    await on.create('b', 'one');
    on.machine(A.address).failure = undefined;
    on.clock.step(2000);
    await settle();
    expect(on.machine(A.address).tenants).toEqual([]);
    expect(on.machine(B.address).tenants).toEqual(['one']);
    expect(on.ledger.size).toBe(0);
  });

  test('of a TaskRun that came back to the host after a restart is not settled while it is there', async () => {
    const on = await setUpFleet();
    await on.records.put('a', { endpoints: [{ ...A, hostKeys: [...A.hostKeys] }] });
    await on.ledger.put(debtKey(debt('a', 'one')), debt('a', 'one'));
    on.holders.set('one', 'a');
    on.machine(A.address).add('one');
    on.list(A);
    on.fleet.start();
    await settle();
    expect(on.machine(A.address).tenants).toEqual(['one']);
    on.holders.delete('one');
    on.clock.step(12 * MINUTE_MS);
    await settle();
    expect(on.machine(A.address).tenants).toEqual([]);
    expect(on.ledger.size).toBe(0);
  });

  test('of a TaskRun that came back to the machine by another name is not settled while it is there', async () => {
    const on = await started(A);
    on.machine(A.address).failure = new HostError(HOST_ERROR.interrupted, 'lost', { mayHaveActed: true });
    on.machine(A.address).failsLate = true;
    await expect(on.create('a', 'one')).rejects.toThrow('lost');
    await on.fleet.owe(debt('a', 'one'));
    on.machine(A.address).failure = undefined;
    on.list({ ...A, name: 'z' });
    await on.create('z', 'one');
    await settle();
    on.clock.step(12 * MINUTE_MS);
    await settle();
    expect(on.machine(A.address).tenants).toEqual(['one']);
    expect(on.ledger.size).toBe(1);
    on.holders.delete('one');
    on.clock.step(12 * MINUTE_MS);
    await settle();
    expect(on.machine(A.address).tenants).toEqual([]);
    expect(on.ledger.size).toBe(0);
  });

  test('on each of two hosts is two debts', async () => {
    const on = await started(A, B);
    await on.fleet.owe(debt('a', 'one'));
    await on.fleet.owe(debt('b', 'one'));
    expect(on.ledger.size).toBe(2);
  });
});

describe('when the list changes', () => {
  test('an account is removed where it was made, with the login that is listed for that machine now', async () => {
    const on = await started(A);
    await on.create('a', 'one');
    on.list({ ...A, secret: 'new-key', user: 'builder' });
    on.machine(A.address).secret = 'new-key';
    await remove(on, 'a', 'one');
    expect(on.machine(A.address).tenants).toEqual([]);

    await on.create('a', 'two');
    on.list({ ...A, address: B.address, secret: 'new-key', user: 'builder' });
    await remove(on, 'a', 'two');
    expect(on.machine(A.address).tenants).toEqual([]);
  });

  test('another key Secret interrupts nothing that is under way', async () => {
    const on = await started(A);
    const open = Promise.withResolvers<void>();
    on.machine(A.address).gate = async () => await open.promise;
    const creating = on.create('a', 'one');
    await settle();
    on.list({ ...A, secret: 'new-key' });
    await settle();
    open.resolve();
    await expect(creating).resolves.toMatchObject({ home: `/home/${accountName('one')}` });
  });

  test('a host that is gone from the list is forgotten once nothing is left on it, and not before', async () => {
    const on = await started(A, B);
    await on.create('a', 'one');
    on.list(B);
    await settle();
    expect(on.fleet.knows('a')).toBe(true);
    await remove(on, 'a', 'one');
    on.holders.delete('one');
    on.clock.step(12 * MINUTE_MS);
    await settle();
    expect(on.fleet.knows('a')).toBe(false);
    expect(on.cluster.dataOf(RECORDS_NAME)).toEqual({});
  });

  test('no account is made on a host that is not listed any more, or whose entry is wrong', async () => {
    const on = await started(A);
    await on.create('a', 'one');
    const { calls } = on.machine(A.address);
    calls.length = 0;
    on.list(B);
    const refused = { code: HOST_ERROR.unreachable, mayHaveActed: false };
    await expect(on.create('a', 'two')).rejects.toMatchObject({ ...refused, message: 'it is not listed any more' });
    on.fleet.configure(new Map(), ['a']);
    const message = 'its entry in the list of hosts is wrong';
    await expect(on.create('a', 'two')).rejects.toMatchObject({ ...refused, message });
    expect(calls.filter((call) => call.startsWith('create'))).toEqual([]);
    await remove(on, 'a', 'one');
    expect(on.machine(A.address).tenants).toEqual([]);
  });

  test('a host that is gone from the list is not forgotten while an account that was in use may be left on it', async () => {
    const on = await setUpFleet();
    await on.records.put('a', { endpoints: [{ ...A, hostKeys: [...A.hostKeys] }] });
    on.machine(A.address).add('one');
    on.holders.set('one', 'a');
    const open = Promise.withResolvers<void>();
    on.machine(A.address).gate = async () => {
      if (on.machine(A.address).calls.at(-1) === 'list') await open.promise;
    };
    on.list(B);
    on.fleet.start();
    await settle();
    // It is live when the machine is swept, and another host takes over before that ends.
    const sweeping = open.promise.then(() => on.holders.delete('one'));
    open.resolve();
    await sweeping;
    await settle();
    expect(on.fleet.knows('a')).toBe(true);
    on.clock.step(12 * MINUTE_MS);
    await settle();
    expect(on.machine(A.address).tenants).toEqual([]);
    expect(on.fleet.knows('a')).toBe(false);
  });

  test('a host whose entry is wrong keeps the key that it was trusted with', async () => {
    const on = await setUpFleet();
    await on.records.put('a', { endpoints: [{ ...A, hostKeys: ['ssh-ed25519 BBBB'] }] });
    on.fleet.configure(new Map(), ['a']);
    on.fleet.start();
    await settle();
    expect(on.fleet.problemOf('a')).toBe('its entry in the list of hosts is wrong');
    expect(on.records.get('a')?.endpoints).toMatchObject([{ hostKeys: ['ssh-ed25519 BBBB'] }]);
    on.list();
    on.clock.step(12 * MINUTE_MS);
    await settle();
    expect(on.records.get('a')).toBeUndefined();
  });

  test('a place where the host was is not forgotten while it cannot be reached', async () => {
    const on = await started(A);
    await on.create('a', 'one');
    on.machine(A.address).failure = DOWN;
    on.list({ ...A, address: B.address });
    on.holders.delete('one');
    await settle();
    expect(on.statuses.get('a')?.available).toBe(true);
    await on.create('a', 'two');
    expect(on.records.get('a')?.endpoints.map(({ address }) => address)).toEqual([B.address, A.address]);
    on.machine(A.address).failure = undefined;
    on.holders.delete('two');
    await remove(on, 'a', 'two');
    on.clock.step(10_000);
    await settle();
    expect(on.machine(A.address).tenants).toEqual([]);
    expect(on.records.get('a')?.endpoints.map(({ address }) => address)).toEqual([B.address]);
  });

  test('a host that is listed again in the moment in which it is forgotten is looked after', async () => {
    const { on, goOn } = await listedAgainWhileForgotten();
    goOn();
    await settle();
    on.machine(A.address).failure = DOWN;
    await expect(on.create('a', 'two')).rejects.toBe(DOWN);
    expect(on.statuses.get('a')?.available).toBe(false);
    expect(on.fleet.knows('a')).toBe(true);
  });

  test('a renamed host is known by its former name as long as that is needed, and its trusted key is kept', async () => {
    const on = await setUpFleet();
    const trusted = ['ssh-ed25519 BBBB'];
    await on.records.put('a', { endpoints: [{ ...A, hostKeys: trusted }] });
    on.holders.set('one', 'a');
    on.list({ ...A, name: 'z', hostKeys: [] });
    expect(on.fleet.formerNamesOf('z')).toEqual(['a']);
    on.fleet.start();
    await settle();
    expect(on.connected.map(({ hostKeys }) => hostKeys)).toEqual([trusted]);
  });
});

describe('records', () => {
  test('of accounts that are made side by side are written once', async () => {
    const on = await started(A);
    on.cluster.requests.length = 0;
    await Promise.all(['1', '2', '3', '4'].map((uid) => on.create('a', uid)));
    expect(on.cluster.requests).toEqual([`patch ${RECORDS_NAME}: a`]);
  });

  test('that are being removed are written anew where an account is made meanwhile', async () => {
    const { on, goOn } = await listedAgainWhileForgotten();
    const creating = on.create('a', 'two');
    await settle();
    goOn();
    await creating;
    await settle();
    expect(Object.keys(on.cluster.dataOf(RECORDS_NAME))).toEqual(['a']);
    expect(on.records.get('a')?.endpoints).toMatchObject([{ address: A.address }]);
  });

  test('are written before the host is asked for an account', async () => {
    const on = await started(A);
    on.cluster.beforePatch = async () => await Promise.reject(new Error('the API server is away'));
    await expect(on.create('a', 'one')).rejects.toThrow('the API server is away');
    expect(on.machine(A.address).calls.filter((call) => call.startsWith('create'))).toEqual([]);
    expect(on.statuses.get('a')?.available).toBe(true);
  });
});
