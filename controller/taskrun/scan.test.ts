import { expect, test } from 'vitest';

import type { KubeClient, Query } from '#shared/kubernetes/client.ts';
import type { KubeList, KubeObject } from '#shared/kubernetes/objects.ts';
import { createLog } from '#shared/log.ts';
import { LABEL } from '#shared/names.ts';

import { scanForUnmarked } from './scan.ts';

test('all pages of what carries no label are looked through, again and again, also after a failure', async () => {
  const asked: (Query | undefined)[] = [];
  const slept: number[] = [];
  const found: string[] = [];
  const stopping = new AbortController();
  const pages: (readonly [string[], string?])[] = [[['a', 'b'], 'two'], [['c']], [['a'], 'two'], [['d']]];
  const client = {
    list: async <T extends KubeObject>(_path: string, query?: Query): Promise<KubeList<T>> => {
      asked.push(query);
      if (asked.length === 4) throw new Error('410 Gone');
      const [names, token] = pages.shift() ?? [[]];
      if (pages.length === 0) stopping.abort();
      const items = names.map((name) => ({ metadata: { name } })) as T[];
      return { metadata: { resourceVersion: '1', ...(token !== undefined && { continue: token }) }, items };
    },
  } satisfies Pick<KubeClient, 'list'>;
  await scanForUnmarked({
    client,
    intervalMs: 60_000,
    onFound: ({ name }) => found.push(name),
    signal: stopping.signal,
    clock: { now: () => 0, sleep: async (ms) => void slept.push(ms) },
    log: createLog({ level: 'error', destination: { write: () => {} } }),
  });
  expect(found).toEqual(['a', 'b', 'c', 'a', 'd']);
  expect(asked.map((query) => query?.continue)).toEqual([undefined, 'two', undefined, 'two', undefined]);
  expect(new Set(asked.map((query) => query?.labelSelector))).toEqual(new Set([`!${LABEL.targetPlatform}`]));
  expect(slept).toEqual([250, 60_000, 250, 60_000, 60_000]);
});
