import { describe, expect, test, vi, beforeEach, afterEach } from 'vitest';

import { systemClock } from './clock.ts';

import { KeyedQueue } from './keyed-queue.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

interface Job {
  readonly key: string;
  done(): void;
  fail(): void;
}

const NO_JOB: Job = {
  key: '',
  done: () => {
    throw new Error('there is no job');
  },
  fail: () => {
    throw new Error('there is no job');
  },
};

function setUp() {
  const jobs: Job[] = [];
  const retries: number[] = [];
  const queue = new KeyedQueue({
    work: (key) =>
      new Promise((resolve, reject) => {
        jobs.push({ key, done: resolve, fail: () => reject(new Error('failed')) });
      }),
    onError: (_key, _error, retryInMs) => retries.push(retryInMs),
    clock: systemClock,
  });
  /** The job that was begun last. */
  const last = (): Job => jobs.at(-1) ?? NO_JOB;
  return { queue, jobs, retries, last };
}

const settle = async (): Promise<void> => void (await vi.advanceTimersByTimeAsync(0));

describe('work', () => {
  test('begins in the call that adds it, keys side by side', () => {
    const { queue, jobs } = setUp();
    for (const key of ['a', 'b', 'c']) queue.add(key);
    expect(jobs.map(({ key }) => key)).toEqual(['a', 'b', 'c']);
    expect(queue.running).toBe(3);
  });

  test('for one key is done one at a time, and once more however often it was added meanwhile', async () => {
    const { queue, jobs, last } = setUp();
    queue.add('a');
    queue.add('a');
    queue.add('a');
    expect(jobs).toHaveLength(1);
    last().done();
    await settle();
    expect(jobs).toHaveLength(2);
    last().done();
    await settle();
    expect(jobs).toHaveLength(2);
    expect(queue.running).toBe(0);
    queue.add('a');
    expect(jobs).toHaveLength(3);
  });

  test('that fails is done again after a pause that grows to 30 s and is forgotten by a success', async () => {
    const { queue, jobs, retries, last } = setUp();
    queue.add('a');
    for (let failure = 1; failure <= 12; failure++) {
      last().fail();
      await settle();
      expect(jobs).toHaveLength(failure);
      await vi.advanceTimersByTimeAsync(30_000);
      expect(jobs).toHaveLength(failure + 1);
    }
    expect(retries[0]).toBeLessThanOrEqual(200);
    expect(retries[0]).toBeGreaterThanOrEqual(100);
    expect(retries.at(-1)).toBeGreaterThanOrEqual(15_000);
    expect(retries.at(-1)).toBeLessThanOrEqual(30_000);
    last().done();
    await settle();
    queue.add('a');
    last().fail();
    await settle();
    expect(retries.at(-1)).toBeLessThanOrEqual(200);
  });

  test('that fails and was added meanwhile is done again at once, and only once', async () => {
    const { queue, jobs, last } = setUp();
    queue.add('a');
    queue.add('a');
    last().fail();
    await settle();
    expect(jobs).toHaveLength(2);
    last().done();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(jobs).toHaveLength(2);
  });

  test('that is to be done later is done then; adding it does it at once and not a second time', async () => {
    const { queue, jobs, last } = setUp();
    queue.addAfter('a', 1000);
    queue.addAfter('b', 1000);
    expect(jobs).toEqual([]);
    queue.add('a');
    last().done();
    await settle();
    await vi.advanceTimersByTimeAsync(999);
    expect(jobs.map(({ key }) => key)).toEqual(['a']);
    await vi.advanceTimersByTimeAsync(1);
    expect(jobs.map(({ key }) => key)).toEqual(['a', 'b']);
    last().done();
    await vi.advanceTimersByTimeAsync(5000);
    expect(jobs).toHaveLength(2);
  });

  test('put off for longer than a timer can hold is not done at once', async () => {
    const { queue, jobs } = setUp();
    queue.addAfter('a', 1e12);
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(jobs).toEqual([]);
  });
});

describe('stopping', () => {
  test('waits for what is being done, and begins nothing more', async () => {
    const { queue, jobs, last } = setUp();
    queue.add('a');
    queue.add('a');
    queue.addAfter('b', 10);
    let isStopped = false;
    const stopped = queue.stop().then(() => (isStopped = true));
    await vi.advanceTimersByTimeAsync(100);
    expect(isStopped).toBe(false);
    last().done();
    await stopped;
    queue.add('c');
    await vi.advanceTimersByTimeAsync(100_000);
    expect(jobs.map(({ key }) => key)).toEqual(['a']);
  });

  test('where nothing is done ends at once; a failure just before it is not tried again', async () => {
    const { queue, jobs } = setUp();
    await queue.stop();
    const other = setUp();
    other.queue.add('a');
    const stopped = other.queue.stop();
    other.last().fail();
    await stopped;
    await vi.advanceTimersByTimeAsync(100_000);
    expect(other.jobs).toHaveLength(1);
    expect(jobs).toEqual([]);
  });
});
