import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type CacheEntry, cacheFolder, fillCache, findCached } from './cache.ts';
import { type Home, createHome, put } from './testing.ts';

const ENTRY: CacheEntry = { name: 'etcd-v1-linux-amd64', files: ['etcd'] };

let home: Home;
let folder: string;

beforeEach(async () => {
  home = await createHome();
  folder = path.join(home.cache, ENTRY.name);
});

afterEach(async () => {
  await home.remove();
});

const build = async (draft: string): Promise<void> => await put(path.join(draft, 'etcd'), 'built');

describe('the cache folder', () => {
  test.each([
    [{ XDG_CACHE_HOME: '/x', HOME: '/h' }, '/x/multi-platform-controller'],
    [{ XDG_CACHE_HOME: 'relative', HOME: '/h' }, '/h/.cache/multi-platform-controller'],
    [{ XDG_CACHE_HOME: '', HOME: '/h' }, '/h/.cache/multi-platform-controller'],
    [{ HOME: '/h' }, '/h/.cache/multi-platform-controller'],
  ])('of %j is %s', (env, expected) => {
    expect(cacheFolder(env)).toBe(expected);
  });

  test('of nobody is an error', () => {
    expect(() => cacheFolder({})).toThrow('set HOME or XDG_CACHE_HOME');
  });
});

describe('filling the cache', () => {
  test('is done once', async () => {
    expect(await fillCache(ENTRY, home, build)).toBe(folder);
    expect(
      await fillCache(ENTRY, home, () => {
        throw new Error('built twice');
      }),
    ).toBe(folder);
    expect(await readdir(home.cache)).toEqual([ENTRY.name]);
  });

  test('is done once by two at a time', async () => {
    let builds = 0;
    const count = async (draft: string): Promise<void> => {
      builds++;
      await build(draft);
    };
    const both = await Promise.all([fillCache(ENTRY, home, count), fillCache(ENTRY, home, count)]);
    expect(both).toEqual([folder, folder]);
    expect(builds).toBe(1);
  });

  test.each(['', undefined])('replaces an entry that is not whole (etcd holds %j)', async (content) => {
    await put(path.join(folder, 'other'), 'x');
    if (content !== undefined) await put(path.join(folder, 'etcd'), content);
    expect(await findCached(ENTRY, home)).toBeUndefined();
    await fillCache(ENTRY, home, build);
    expect(await readFile(path.join(folder, 'etcd'), 'utf8')).toBe('built');
    expect(await readdir(folder)).toEqual(['etcd']);
  });

  test('leaves nothing where it fails, and works the next time', async () => {
    const fail = async (draft: string): Promise<void> => {
      await build(draft);
      throw new Error('disk full');
    };
    await expect(fillCache(ENTRY, home, fail)).rejects.toThrow('disk full');
    expect(await readdir(home.cache)).toEqual([]);
    await fillCache(ENTRY, home, build);
    expect(await findCached(ENTRY, home)).toBe(folder);
  });

  test('keeps nothing that lacks a file', async () => {
    await expect(fillCache(ENTRY, home, async () => {})).rejects.toMatchObject({ code: 'incomplete' });
    expect(await readdir(home.cache)).toEqual([]);
  });

  test('removes what a run left that was killed half-way', async () => {
    await put(path.join(home.cache, 'mpc-sandbox-1-1-etcd-v1-linux-amd64-abcdef', 'half'), 'x');
    await fillCache(ENTRY, home, build);
    expect(await readdir(home.cache)).toEqual([ENTRY.name]);
  });

  test('takes what somebody else made meanwhile', async () => {
    const beaten = async (draft: string): Promise<void> => {
      await build(draft);
      await put(path.join(folder, 'etcd'), 'theirs');
      throw new Error('too late');
    };
    expect(await fillCache(ENTRY, home, beaten)).toBe(folder);
    expect(await readFile(path.join(folder, 'etcd'), 'utf8')).toBe('theirs');
  });
});
