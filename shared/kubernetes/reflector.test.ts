import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { systemClock } from '../clock.ts';
import { createLog } from '../log.ts';
import { KubeClient } from './client.ts';
import type { KubeObject } from './objects.ts';
import { cachedMeta, isNewer, Reflector, type Cached } from './reflector.ts';
import { listOf, objectOf, StandInApiServer, type Answer, type OpenWatch } from './testing.ts';

const PATH = '/api/v1/things';

let server: StandInApiServer;
let client: KubeClient;
const toStop: (() => Promise<void>)[] = [];

beforeEach(async () => {
  server = await StandInApiServer.start();
  client = new KubeClient({ config: server.config });
});
afterEach(async () => {
  await Promise.all(toStop.splice(0).map((stop) => stop()));
  client.close();
  await server.stop();
  vi.useRealTimers();
});

function reflect(
  options: { onSet?: (object: Cached) => void; trim?: (object: KubeObject) => Cached; labelSelector?: string } = {},
) {
  const seen: string[] = [];
  const logged: string[] = [];
  const reflector = new Reflector<Cached>({
    client,
    path: PATH,
    ...(options.labelSelector !== undefined && { labelSelector: options.labelSelector }),
    trim: options.trim ?? cachedMeta,
    onSet: (object, previous) => {
      options.onSet?.(object);
      seen.push(`${previous === undefined ? 'new' : 'changed'} ${object.name} ${object.resourceVersion}`);
    },
    onDelete: ({ name, uid }) => seen.push(`gone ${name} ${uid}`),
    clock: systemClock,
    log: createLog({ level: 'error', destination: { write: (line: string) => void logged.push(line) } }),
  });
  toStop.push(async () => await reflector.stop());
  return { reflector, seen, logged };
}

/** Throws on what is malformed. */
function trimStrictly(object: KubeObject & { malformed?: boolean }): Cached {
  if (object.malformed === true) throw new TypeError('not a function');
  return cachedMeta(object);
}

/** The answers to lists, one after the other; the last one for all that come later. */
function answerLists(...answers: Answer[]): void {
  server.onRequest = () => (answers.length > 1 ? answers.shift() : answers[0]) ?? {};
}

const lists = (): string[] =>
  server.requests.filter(({ query }) => !query.has('watch')).map(({ query }) => query.get('continue') ?? '');

/** Waits until this many watches were opened, and gives the last one. */
async function watchNumber(count: number): Promise<OpenWatch> {
  return await vi.waitFor(
    () => {
      const watch = server.watches[count - 1];
      if (watch === undefined) throw new Error(`there are only ${server.watches.length} watches`);
      return watch;
    },
    { timeout: 4000, interval: 5 },
  );
}

const sees = async (seen: readonly string[], expected: readonly string[]): Promise<void> =>
  await vi.waitFor(() => expect(seen).toEqual(expected), { timeout: 4000, interval: 5 });

describe('the first list', () => {
  test('comes in pages, and all of it is there when start resolves', async () => {
    answerLists(
      listOf('10', [objectOf('a', '1')], 'two'),
      listOf('10', [objectOf('b', '2')], 'three'),
      listOf('10', [objectOf('c', '3')]),
    );
    const { reflector, seen } = reflect({ labelSelector: 'mine=yes' });
    await reflector.start();
    expect(seen).toEqual(['new a 1', 'new b 2', 'new c 3']);
    expect(lists()).toEqual(['', 'two', 'three']);
    expect(server.requests.slice(0, 3).map(({ query }) => [query.get('limit'), query.get('labelSelector')])).toEqual(
      Array.from({ length: 3 }, () => ['500', 'mine=yes']),
    );
    const watch = await watchNumber(1);
    expect(watch.query.get('resourceVersion')).toBe('10');
    expect(watch.query.get('allowWatchBookmarks')).toBe('true');
    expect(watch.query.get('labelSelector')).toBe('mine=yes');
    expect(Number(watch.query.get('timeoutSeconds'))).toBeGreaterThanOrEqual(300);
  });

  test('begins anew where a page has expired or the server fails, and says nothing twice', async () => {
    answerLists(
      listOf('10', [objectOf('a', '1')], 'two'),
      { status: 410, body: { code: 410, reason: 'Expired' } },
      { status: 503, body: 'busy' },
      listOf('11', [objectOf('a', '1'), objectOf('b', '2')]),
    );
    const { reflector, seen } = reflect();
    await reflector.start();
    expect(lists()).toEqual(['', 'two', '', '']);
    expect(seen).toEqual(['new a 1', 'new b 2']);
  });

  test('that never comes does not keep anybody waiting after stop', async () => {
    server.onRequest = async () => await new Promise<never>(() => {});
    const { reflector } = reflect();
    const started = reflector.start();
    void reflector.stop();
    await expect(started).resolves.toBeUndefined();
    expect(reflector.hasSynced).toBe(false);
    await server.stop();
    server = await StandInApiServer.start();
  });
});

describe('an object that cannot be read', () => {
  const malformed = (name: string, version: string): KubeObject =>
    ({ ...objectOf(name, version), malformed: true }) as KubeObject;

  test('is left out of the first list, and said once for each version of it', async () => {
    answerLists(
      listOf('10', [objectOf('a', '1'), malformed('b', '2')], 'two'),
      { status: 503, body: 'busy' },
      listOf('11', [malformed('b', '2'), malformed('b2', '2'), objectOf('c', '3')]),
    );
    const { reflector, seen, logged } = reflect({ trim: trimStrictly });
    await reflector.start();
    expect(seen).toEqual(['new c 3']);
    expect(logged.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual([
      'ns/b cannot be read, and is left out: not a function',
      'ns/b2 cannot be read, and is left out: not a function',
    ]);
  });

  test('neither ends the watch nor is taken for gone, until it is', async () => {
    answerLists(listOf('10', [objectOf('a', '5')]), listOf('40', [malformed('a', '11'), objectOf('b', '12')]));
    const { reflector, seen } = reflect({ trim: trimStrictly });
    await reflector.start();
    const first = await watchNumber(1);
    first.send('MODIFIED', malformed('a', '11'));
    first.send('ADDED', objectOf('b', '12'));
    await sees(seen, ['new a 5', 'new b 12']);
    first.send('ERROR', { kind: 'Status', code: 410, reason: 'Expired' });
    const second = await watchNumber(2);
    expect(seen).toEqual(['new a 5', 'new b 12']);
    second.send('DELETED', malformed('a', '41'));
    await sees(seen, ['new a 5', 'new b 12', 'gone a uid-a']);
    expect(reflector.size).toBe(1);
  });
});

describe('a watch', () => {
  test('brings what is new, changed and gone; an event that is older than what is known changes nothing', async () => {
    answerLists(listOf('10', [objectOf('a', '5')]));
    const { reflector, seen } = reflect();
    await reflector.start();
    const watch = await watchNumber(1);
    watch.send('ADDED', objectOf('b', '11'));
    watch.send('MODIFIED', objectOf('a', '12'));
    watch.send('MODIFIED', objectOf('a', '5'));
    watch.send('BOOKMARK', { metadata: { resourceVersion: '20' } });
    watch.send('DELETED', objectOf('b', '21'));
    watch.send('DELETED', objectOf('a', '22', 'another-uid'));
    watch.send('ADDED', objectOf('c', '23'));
    await sees(seen, ['new a 5', 'new b 11', 'changed a 12', 'gone b uid-b', 'new c 23']);
    expect(reflector.get('ns', 'a')?.resourceVersion).toBe('12');
    expect(reflector.size).toBe(2);
  });

  test('what a write of ours has brought is kept over an older event, and not brought back once it is gone', async () => {
    answerLists(listOf('10', [objectOf('a', '5')]));
    const { reflector, seen } = reflect();
    await reflector.start();
    reflector.observe(objectOf('a', '30'));
    const watch = await watchNumber(1);
    watch.send('MODIFIED', objectOf('a', '12'));
    watch.send('DELETED', objectOf('a', '31'));
    await sees(seen, ['new a 5', 'changed a 30', 'gone a uid-a']);
    reflector.observe(objectOf('a', '30'));
    expect(reflector.size).toBe(0);
  });

  test('of the same name with another UID is first gone, then new', async () => {
    answerLists(listOf('10', [objectOf('a', '5')]));
    const { reflector, seen } = reflect();
    await reflector.start();
    (await watchNumber(1)).send('ADDED', objectOf('a', '11', 'second'));
    await sees(seen, ['new a 5', 'gone a uid-a', 'new a 11']);
    expect(reflector.get('ns', 'a')?.uid).toBe('second');
  });

  test.each([
    ['ends', (watch: OpenWatch) => watch.end()],
    ['breaks', (watch: OpenWatch) => watch.break()],
  ])('that %s goes on from the last event or bookmark, without a list', async (_how, stop) => {
    answerLists(listOf('10', []));
    const { reflector, seen } = reflect();
    await reflector.start();
    const first = await watchNumber(1);
    first.send('ADDED', objectOf('a', '11'));
    first.send('BOOKMARK', { metadata: { resourceVersion: '40' } });
    await sees(seen, ['new a 11']);
    stop(first);
    const second = await watchNumber(2);
    expect(second.query.get('resourceVersion')).toBe('40');
    second.send('DELETED', objectOf('a', '41'));
    await sees(seen, ['new a 11', 'gone a uid-a']);
    expect(lists()).toHaveLength(1);
  });

  test.each([
    ['an event', () => server.watches[0]?.send('ERROR', { kind: 'Status', code: 410, reason: 'Expired' })],
    [
      'the status of the next one',
      () => {
        server.watchStatus = 410;
        server.watches[0]?.end();
      },
    ],
  ])(
    'that is too old, as %s says, is followed by a list, of which only what differs is passed on',
    async (_as, fail) => {
      answerLists(
        listOf('10', [objectOf('a', '1'), objectOf('b', '2'), objectOf('c', '3'), objectOf('d', '4')]),
        listOf('50', [objectOf('a', '1'), objectOf('b', '45'), objectOf('d', '46', 'second'), objectOf('e', '47')]),
      );
      const { reflector, seen } = reflect();
      await reflector.start();
      await watchNumber(1);
      seen.length = 0;
      fail();
      await vi.waitFor(() => expect(lists()).toHaveLength(2), { timeout: 4000 });
      server.watchStatus = null;
      await sees(seen, ['gone c uid-c', 'gone d uid-d', 'changed b 45', 'new d 46', 'new e 47']);
      const second = await watchNumber(2);
      expect(second.query.get('resourceVersion')).toBe('50');
    },
  );

  test('an event that could not be taken in comes again', async () => {
    answerLists(listOf('10', []));
    let failures = 1;
    const { reflector, seen } = reflect({
      onSet: ({ name }) => {
        if (name === 'b' && failures-- > 0) throw new Error('not now');
      },
    });
    await reflector.start();
    const first = await watchNumber(1);
    first.send('ADDED', objectOf('a', '11'));
    first.send('ADDED', objectOf('b', '12'));
    first.send('ADDED', objectOf('c', '13'));
    const second = await watchNumber(2);
    expect(second.query.get('resourceVersion')).toBe('11');
    expect(seen).toEqual(['new a 11']);
  });

  test('on which nothing comes for 30 s, not even a bookmark, is given up and replaced', async () => {
    answerLists(listOf('10', []));
    const { reflector, seen } = reflect();
    // The connections' own timers are Node.js's and go on; the client's limit is what is stepped.
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'], shouldAdvanceTime: true });
    await reflector.start();
    const first = await watchNumber(1);
    first.send('BOOKMARK', { metadata: { resourceVersion: '15' } });
    first.send('ADDED', objectOf('a', '16'));
    await sees(seen, ['new a 16']);
    await vi.advanceTimersByTimeAsync(29_000);
    expect(server.watches).toHaveLength(1);
    expect(first.isClosed).toBe(false);
    await vi.advanceTimersByTimeAsync(1500);
    const second = await watchNumber(2);
    expect(second.query.get('resourceVersion')).toBe('16');
    await vi.waitFor(() => expect(first.isClosed).toBe(true));
    expect(lists()).toHaveLength(1);
  });

  test('that each time ends at once is tried again with growing pauses', async () => {
    answerLists(listOf('10', []));
    server.watchStatus = 503;
    const { reflector } = reflect();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'], shouldAdvanceTime: true });
    await reflector.start();
    const watches = (): number => server.requests.filter(({ query }) => query.has('watch')).length;
    for (let second = 0; second < 40; second++) await vi.advanceTimersByTimeAsync(1000);
    // 0.2 s, doubled up to 30 s, each cut by up to half: 8 to 9 of them in 40 s.
    expect(watches()).toBeGreaterThan(5);
    expect(watches()).toBeLessThan(14);
  });

  test('ends with stop, and nothing is asked or told any more', async () => {
    answerLists(listOf('10', []));
    const { reflector, seen } = reflect();
    await reflector.start();
    const watch = await watchNumber(1);
    await reflector.stop();
    watch.send('ADDED', objectOf('a', '11'));
    await vi.waitFor(() => expect(watch.isClosed).toBe(true));
    expect(server.requests).toHaveLength(2);
    expect(seen).toEqual([]);
  });
});

test.each([
  ['10', '9', true],
  ['9', '10', false],
  ['7', '7', false],
  ['18446744073709551615', '9007199254740993', true],
  ['9007199254740993', '9007199254740992', true],
])('version %s is newer than %s: %s', (a, b, newer) => {
  expect(isNewer(a, b)).toBe(newer);
});
