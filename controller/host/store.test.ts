import { describe, expect, test } from 'vitest';

import { createLog } from '#shared/log.ts';

import { FakeConfigMaps, NAMESPACE } from './fleet.testing.ts';
import { Store } from './store.ts';

const NAME = 'store';

async function open(cluster: FakeConfigMaps, lines: string[] = []): Promise<Store<number>> {
  return await Store.open<number>({
    client: cluster,
    namespace: NAMESPACE,
    name: NAME,
    parse: (value) => {
      if (typeof value !== 'number') throw new TypeError('not a number');
      return value;
    },
    log: createLog({ level: 'error', destination: { write: (line) => lines.push(line) } }),
  });
}

function filled(data: Record<string, string>): FakeConfigMaps {
  const cluster = new FakeConfigMaps();
  cluster.maps.set(NAME, { metadata: { name: NAME }, data });
  return cluster;
}

describe('opening', () => {
  test('makes the ConfigMap where there is none', async () => {
    const cluster = new FakeConfigMaps();
    const store = await open(cluster);
    expect(store.size).toBe(0);
    expect(cluster.requests).toEqual(['get store', 'create store']);
  });

  test('takes over what is there; what cannot be read is named in the log and left as it is', async () => {
    const cluster = filled({ a: '1', b: '{', c: '"text"' });
    const lines: string[] = [];
    const store = await open(cluster, lines);
    expect([...store.entries()]).toEqual([['a', 1]]);
    expect(lines).toHaveLength(2);
    expect(lines.join('')).toMatch(/key b cannot be read.*\n.*key c cannot be read/);
    await store.put('a', 2);
    await store.remove('b');
    expect(cluster.dataOf(NAME)).toEqual({ a: '2', b: '{', c: '"text"' });
  });

  test('by two at once makes one', async () => {
    const cluster = new FakeConfigMaps();
    const [one, two] = await Promise.all([open(cluster), open(cluster)]);
    await one.put('a', 1);
    await two.put('b', 2);
    expect(cluster.dataOf(NAME)).toEqual({ a: '1', b: '2' });
  });
});

describe('a change', () => {
  test('is in memory only once it is written', async () => {
    const cluster = filled({ a: '1' });
    const store = await open(cluster);
    cluster.beforePatch = async () => await Promise.reject(new Error('no answer'));
    await expect(store.put('a', 2)).rejects.toThrow('no answer');
    await expect(store.remove('a')).rejects.toThrow('no answer');
    expect(store.get('a')).toBe(1);
    cluster.beforePatch = async () => {};
    await store.remove('a');
    expect(store.get('a')).toBeUndefined();
    expect(cluster.dataOf(NAME)).toEqual({});
  });

  test('comes after the one before it, however long that takes, and sees what that has made', async () => {
    const cluster = filled({});
    const store = await open(cluster);
    const delays = [30, 0, 10, 0];
    cluster.beforePatch = async () => await new Promise((resolve) => setTimeout(resolve, delays.shift()));
    const add = async (): Promise<void> => await store.update('a', (current = 0) => current + 1);
    await Promise.all([add(), add(), store.remove('a'), add()]);
    expect(cluster.dataOf(NAME)).toEqual({ a: '1' });
    expect(store.get('a')).toBe(1);
  });

  test('to nothing new is not written', async () => {
    const cluster = filled({ a: '1' });
    const store = await open(cluster);
    await store.update('a', () => undefined);
    await store.remove('unknown');
    expect(cluster.requests).toEqual(['get store']);
  });

  test('after somebody deleted the ConfigMap brings back all that was in it', async () => {
    const cluster = filled({ a: '1', b: '2' });
    const store = await open(cluster);
    cluster.maps.delete(NAME);
    await store.put('c', 3);
    expect(cluster.dataOf(NAME)).toEqual({ a: '1', b: '2', c: '3' });
    cluster.maps.delete(NAME);
    await store.remove('a');
    expect(cluster.dataOf(NAME)).toEqual({ b: '2', c: '3' });
  });
});
