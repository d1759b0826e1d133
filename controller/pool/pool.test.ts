import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { Pool, type Changes, type PoolHost } from './pool.ts';

const ARM = 'linux/arm64';
const NONE: ReadonlySet<string> = new Set();

function host(name: string, capacity: number, platform = ARM): PoolHost {
  return { name, platform, capacity };
}

function poolOf(...hosts: PoolHost[]): Pool {
  const pool = new Pool();
  pool.configure(hosts);
  return pool;
}

function request(pool: Pool, uid: string, exclude: ReadonlySet<string> = NONE, platform = ARM): unknown {
  return pool.request({ uid, platform, exclude });
}

describe('choosing a host', () => {
  test('the one with most free slots comes first', () => {
    const pool = poolOf(host('small', 1), host('large', 3));
    expect(['a', 'b', 'c'].map((uid) => request(pool, uid))).toEqual([
      { kind: 'granted', host: 'large' },
      { kind: 'granted', host: 'large' },
      // One free slot each from here on: `small` is 0/1 in use, `large` 2/3.
      { kind: 'granted', host: 'small' },
    ]);
  });

  test('with as many free slots, the one used longest ago comes first', () => {
    const pool = poolOf(host('a', 1), host('b', 1));
    request(pool, '1');
    request(pool, '2');
    pool.release('2');
    pool.release('1');
    expect(request(pool, '3')).toEqual({ kind: 'granted', host: 'a' });
  });

  test('a host that is drained, not available or excluded is not chosen, and the TaskRun waits as long as one may come back', () => {
    const pool = poolOf(host('drained', 0), host('away', 1), host('failed', 1));
    pool.setAvailable('away', false);
    expect(request(pool, '1', new Set(['failed']))).toEqual({ kind: 'waiting', position: 1 });
    expect(pool.setAvailable('away', true).grants).toEqual([{ uid: '1', host: 'away' }]);
  });

  test('no host of the platform, and none that has not failed, are two different answers', () => {
    const pool = poolOf(host('a', 1));
    expect(request(pool, '1', NONE, 'linux/s390x')).toEqual({ kind: 'no-such-platform' });
    expect(request(pool, '2', new Set(['a']))).toEqual({ kind: 'exhausted' });
  });
});

describe('waiting', () => {
  test('is first come, first served, and each platform has a queue of its own', () => {
    const pool = poolOf(host('a', 1), host('z', 1, 'linux/s390x'));
    request(pool, '1');
    expect(request(pool, '2')).toEqual({ kind: 'waiting', position: 1 });
    expect(request(pool, '3')).toEqual({ kind: 'waiting', position: 2 });
    expect(request(pool, '4', NONE, 'linux/s390x')).toEqual({ kind: 'granted', host: 'z' });
    expect(pool.release('1').grants).toEqual([{ uid: '2', host: 'a' }]);
    expect(pool.release('2').grants).toEqual([{ uid: '3', host: 'a' }]);
  });

  test('whoever cannot use the freed host keeps its place, and the next one is served', () => {
    const pool = poolOf(host('a', 1), host('b', 1));
    request(pool, '1');
    request(pool, '2');
    request(pool, '3', new Set(['b']));
    request(pool, '4');
    expect(pool.release('2').grants).toEqual([{ uid: '4', host: 'b' }]);
    expect(pool.release('1').grants).toEqual([{ uid: '3', host: 'a' }]);
  });

  test('asking again keeps the place, and leaving gives it up', () => {
    const pool = poolOf(host('a', 1));
    request(pool, '1');
    request(pool, '2');
    request(pool, '3');
    request(pool, '2');
    pool.leave('3');
    expect(pool.release('1').grants).toEqual([{ uid: '2', host: 'a' }]);
    expect(pool.release('2').grants).toEqual([]);
  });
});

describe('a changed list of hosts', () => {
  test('running TaskRuns keep their slots where a host goes, shrinks and comes back', () => {
    const pool = poolOf(host('a', 2));
    request(pool, '1');
    request(pool, '2');
    pool.configure([]);
    expect(pool.hostOf('1')).toBe('a');
    pool.configure([host('a', 1)]);
    expect(request(pool, '3')).toEqual({ kind: 'waiting', position: 1 });
    expect(pool.release('1').grants).toEqual([]);
    expect(pool.release('2').grants).toEqual([{ uid: '3', host: 'a' }]);
  });

  test('more slots are handed out at once, over all hosts', () => {
    const pool = poolOf(host('a', 1));
    for (const uid of ['1', '2', '3', '4']) request(pool, uid);
    const { grants } = pool.configure([host('a', 2), host('b', 2)]);
    expect(grants.toSorted((x, y) => x.uid.localeCompare(y.uid))).toEqual([
      { uid: '2', host: 'b' },
      { uid: '3', host: 'a' },
      { uid: '4', host: 'b' },
    ]);
  });

  test('whoever waits for a platform that is gone is told', () => {
    const pool = poolOf(host('a', 1));
    request(pool, '1');
    request(pool, '2');
    expect(pool.configure([host('z', 1, 'linux/s390x')])).toEqual({ grants: [], stranded: ['2'] });
    expect(pool.isWaiting('2')).toBe(false);
  });

  test('slots restored after a restart count, even more of them than the host has now', () => {
    const pool = new Pool();
    pool.restore('1', 'a');
    pool.restore('2', 'a');
    pool.configure([host('a', 1)]);
    expect(request(pool, '3')).toEqual({ kind: 'waiting', position: 1 });
    expect(pool.release('1').grants).toEqual([]);
    expect(pool.release('2').grants).toEqual([{ uid: '3', host: 'a' }]);
  });
});

test('slots held under a name that is not listed any more count for the machine that is listed under another', () => {
  const pool = poolOf(host('old', 2));
  request(pool, '1');
  request(pool, '2');
  request(pool, '3');
  expect(pool.configure([{ ...host('new', 2), formerNames: ['old'] }])).toEqual({ grants: [], stranded: [] });
  expect([...pool.hosts()]).toMatchObject([{ name: 'new', used: 2 }]);
  expect(pool.release('1').grants).toEqual([{ uid: '3', host: 'new' }]);
  expect(request(pool, '4')).toEqual({ kind: 'waiting', position: 1 });
  expect(pool.release('3').grants).toEqual([{ uid: '4', host: 'new' }]);
  // Listed by its old name again: each name counts what is held under it.
  pool.configure([{ ...host('old', 2), formerNames: ['new'] }]);
  expect([...pool.hosts()]).toMatchObject([{ name: 'old', used: 2 }]);
});

test('a host is overfull only where more slots are held than it has', () => {
  const pool = poolOf(host('a', 1));
  request(pool, '1');
  expect(pool.isOverfull('a')).toBe(false);
  pool.restore('2', 'a');
  expect(pool.isOverfull('a')).toBe(true);
  pool.release('2');
  expect(pool.isOverfull('a')).toBe(false);
  pool.restore('3', 'not-listed');
  expect(pool.isOverfull('not-listed')).toBe(false);
});

/** A slow pool that is easy to believe: arrays, no indexes. */
class Model {
  hosts: PoolHost[] = [];
  held: { uid: string; host: string }[] = [];
  queue: { uid: string; platform: string; exclude: ReadonlySet<string> }[] = [];
  away = new Set<string>();

  used({ name, formerNames = [] }: PoolHost): number {
    return this.held.filter((slot) => slot.host === name || formerNames.includes(slot.host)).length;
  }
}

const NAMES = ['a', 'b', 'c', 'd'];
const PLATFORMS = [ARM, 'linux/s390x'];
const arbHosts = fc
  .uniqueArray(
    fc.record({
      name: fc.constantFrom(...NAMES),
      platform: fc.constantFrom(...PLATFORMS),
      capacity: fc.integer({ min: 0, max: 3 }),
      formerNames: fc.subarray(NAMES, { maxLength: 2 }),
    }),
    { selector: (entry) => entry.name, maxLength: 4 },
  )
  .map((hosts) => {
    const listed = new Set(hosts.map(({ name }) => name));
    return hosts.map((entry) => ({
      ...entry,
      formerNames: entry.formerNames.filter((former) => !listed.has(former)),
    }));
  });
const arbCommand = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant('request' as const),
      platform: fc.constantFrom(...PLATFORMS),
      exclude: fc.subarray(NAMES, { maxLength: 2 }),
    }),
  },
  { weight: 5, arbitrary: fc.record({ type: fc.constant('release' as const), index: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('leave' as const), index: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('restore' as const), name: fc.constantFrom(...NAMES) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('configure' as const), hosts: arbHosts }) },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant('available' as const),
      name: fc.constantFrom(...NAMES),
      available: fc.boolean(),
    }),
  },
);

test('whatever happens: no host is over its capacity by what we gave, nobody who could run waits, and nobody is passed by', () => {
  fc.assert(
    fc.property(arbHosts, fc.array(arbCommand, { maxLength: 80 }), (hosts, commands) => {
      const pool = new Pool();
      const model = new Model();
      let serial = 0;

      const apply = (changes: Changes): void => {
        for (const grant of changes.grants) {
          const place = model.queue.findIndex((entry) => entry.uid === grant.uid);
          expect(place).toBeGreaterThanOrEqual(0);
          const [entry] = model.queue.splice(place, 1);
          checkGrant(grant.uid, grant.host, entry?.platform ?? '', entry?.exclude ?? NONE);
          const passedBy = model.queue
            .slice(0, place)
            .filter((other) => other.platform === entry?.platform && !other.exclude.has(grant.host));
          expect(passedBy).toEqual([]);
        }
        for (const uid of changes.stranded) model.queue = model.queue.filter((entry) => entry.uid !== uid);
      };
      const checkGrant = (uid: string, name: string, platform: string, exclude: ReadonlySet<string>): void => {
        const spec = model.hosts.find((entry) => entry.name === name);
        expect(spec?.platform).toBe(platform);
        expect(spec && model.used(spec)).toBeLessThan(spec?.capacity ?? 0);
        expect(model.away.has(name)).toBe(false);
        expect(exclude.has(name)).toBe(false);
        model.held.push({ uid, host: name });
      };

      model.hosts = hosts;
      apply(pool.configure(hosts));
      for (const command of commands) {
        if (command.type === 'request') {
          const uid = `t${serial++}`;
          const exclude = new Set(command.exclude);
          const result = pool.request({ uid, platform: command.platform, exclude });
          if (result.kind === 'granted') checkGrant(uid, result.host, command.platform, exclude);
          else if (result.kind === 'waiting') model.queue.push({ uid, platform: command.platform, exclude });
        } else if (command.type === 'release') {
          const slot = model.held[command.index % Math.max(1, model.held.length)];
          if (slot === undefined) continue;
          model.held = model.held.filter((other) => other !== slot);
          apply(pool.release(slot.uid));
        } else if (command.type === 'leave') {
          const entry = model.queue[command.index % Math.max(1, model.queue.length)];
          if (entry === undefined) continue;
          model.queue = model.queue.filter((other) => other !== entry);
          pool.leave(entry.uid);
        } else if (command.type === 'restore') {
          const uid = `t${serial++}`;
          model.held.push({ uid, host: command.name });
          pool.restore(uid, command.name);
        } else if (command.type === 'configure') {
          model.hosts = command.hosts;
          apply(pool.configure(command.hosts));
        } else {
          if (command.available) model.away.delete(command.name);
          else model.away.add(command.name);
          apply(pool.setAvailable(command.name, command.available));
        }
        for (const entry of model.queue) {
          const usable = model.hosts.filter(
            (spec) => spec.platform === entry.platform && !entry.exclude.has(spec.name),
          );
          expect(usable).not.toEqual([]);
          expect(usable.filter((spec) => !model.away.has(spec.name) && model.used(spec) < spec.capacity)).toEqual([]);
        }
        const uses = new Map(pool.hosts().map((use) => [use.name, use]));
        for (const spec of model.hosts) {
          expect(uses.get(spec.name)?.used).toBe(model.used(spec));
          expect(pool.isOverfull(spec.name)).toBe(model.used(spec) > spec.capacity);
        }
        for (const { uid, host: name } of model.held) expect(pool.hostOf(uid)).toBe(name);
      }
    }),
    { numRuns: 500 },
  );
});
