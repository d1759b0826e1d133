import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { systemClock } from '#shared/clock.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { KubeError } from '#shared/kubernetes/errors.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { createLog } from '#shared/log.ts';

import { Leader } from './leader.ts';

interface Lease extends KubeObject {
  spec?: Record<string, unknown>;
}

/** One lease on an API server that compares versions, and that can be away. */
class FakeLeases implements Pick<KubeClient, 'get' | 'create' | 'replace'> {
  lease: Lease | undefined;
  isAway = false;
  writes = 0;
  #version = 0;

  async get<T>(path: string): Promise<T> {
    this.#expectUp();
    if (this.lease === undefined) throw new KubeError(`GET ${path}`, 404, {});
    return structuredClone(this.lease) as T;
  }

  async create<T>(path: string, body: NoInfer<T>): Promise<T> {
    this.#expectUp();
    if (this.lease !== undefined) throw new KubeError(`POST ${path}`, 409, {});
    return this.#store(body as Lease) as T;
  }

  async replace<T>(path: string, body: NoInfer<T>): Promise<T> {
    this.#expectUp();
    const { resourceVersion } = (body as Lease).metadata;
    if (resourceVersion !== this.lease?.metadata.resourceVersion) throw new KubeError(`PUT ${path}`, 409, {});
    return this.#store(body as Lease) as T;
  }

  #store(body: Lease): Lease {
    this.writes++;
    this.lease = structuredClone(body);
    this.lease.metadata.resourceVersion = String(++this.#version);
    return structuredClone(this.lease);
  }

  #expectUp(): void {
    if (this.isAway) throw new Error('no answer');
  }
}

beforeEach(() => {
  vi.useFakeTimers({ now: Date.parse('2026-01-01T12:00:00Z') });
});
afterEach(() => {
  vi.useRealTimers();
});

const pass = async (ms: number): Promise<void> => void (await vi.advanceTimersByTimeAsync(ms));

function candidate(server: FakeLeases, identity: string) {
  const leader = new Leader({
    client: server,
    namespace: 'ns',
    name: 'lease',
    identity,
    clock: systemClock,
    log: createLog({ level: 'error', destination: { write: () => {} } }),
  });
  let lost = 0;
  const acquired = leader.acquire(() => lost++);
  return {
    leader,
    acquired,
    get lost() {
      return lost;
    },
  };
}

describe('a candidate', () => {
  test('takes a lease that is not there, writes it as client-go does, and renews it every 2 s', async () => {
    const server = new FakeLeases();
    const one = candidate(server, 'one');
    await expect(one.acquired).resolves.toBe(true);
    expect(server.lease?.spec).toEqual({
      holderIdentity: 'one',
      leaseDurationSeconds: 15,
      acquireTime: '2026-01-01T12:00:00.000000Z',
      renewTime: '2026-01-01T12:00:00.000000Z',
      leaseTransitions: 0,
    });
    await pass(6000);
    expect(server.writes).toBe(4);
    expect(server.lease?.spec).toMatchObject({
      acquireTime: '2026-01-01T12:00:00.000000Z',
      renewTime: '2026-01-01T12:00:06.000000Z',
      leaseTransitions: 0,
    });
    await one.leader.release();
    expect(one.lost).toBe(0);
  });

  test('waits as long as the lease is renewed, and takes it 15 s after it last saw it change', async () => {
    const server = new FakeLeases();
    await server.create('', { metadata: { name: 'lease' }, spec: heldBy('other', '2026-01-01T11:00:00.000000Z') });
    const two = candidate(server, 'two');
    await pass(14_000);
    expect(two.leader.isLeading).toBe(false);
    // Its own clock may be wrong by any amount: only the change counts.
    await server.replace('', {
      metadata: { name: 'lease', resourceVersion: '1' },
      spec: heldBy('other', '2026-01-01T11:00:01.000000Z'),
    });
    await pass(15_000);
    expect(two.leader.isLeading).toBe(false);
    await pass(2000);
    expect(two.leader.isLeading).toBe(true);
    expect(server.lease?.spec).toMatchObject({ holderIdentity: 'two', leaseTransitions: 4 });
    await two.leader.release();
  });

  test('does not take a lease early because its wall clock was set', async () => {
    const server = new FakeLeases();
    await server.create('', { metadata: { name: 'lease' }, spec: heldBy('other', '2026-01-01T11:00:00.000000Z') });
    const two = candidate(server, 'two');
    await pass(2000);
    vi.setSystemTime(Date.now() + 3_600_000);
    await pass(12_000);
    expect(two.leader.isLeading).toBe(false);
    await pass(2000);
    expect(two.leader.isLeading).toBe(true);
    await two.leader.release();
  });

  test('takes over within 2 s from one that lets go', async () => {
    const server = new FakeLeases();
    const one = candidate(server, 'one');
    await one.acquired;
    const two = candidate(server, 'two');
    await pass(20_000);
    expect([one.leader.isLeading, two.leader.isLeading]).toEqual([true, false]);
    await one.leader.release();
    expect(server.lease?.spec).toMatchObject({ holderIdentity: '', leaseDurationSeconds: 1 });
    expect(() => one.leader.check()).toThrow('does not lead any more');
    await pass(1000);
    expect(two.leader.isLeading).toBe(true);
    expect(server.lease?.spec).toMatchObject({ holderIdentity: 'two', leaseTransitions: 1 });
    await two.leader.release();
  });

  test('that is told to stop before it leads never does', async () => {
    const server = new FakeLeases();
    const one = candidate(server, 'one');
    await one.acquired;
    const two = candidate(server, 'two');
    await pass(3000);
    await two.leader.release();
    await expect(two.acquired).resolves.toBe(false);
    await one.leader.release();
    expect(server.lease?.spec).toMatchObject({ holderIdentity: '' });
  });

  test('of many at once, only one leads', async () => {
    const server = new FakeLeases();
    const all = ['1', '2', '3', '4'].map((identity) => candidate(server, identity));
    await pass(5000);
    expect(all.filter(({ leader }) => leader.isLeading)).toHaveLength(1);
    await Promise.all(all.map(({ leader }) => leader.release()));
  });
});

describe('a leader', () => {
  test('that cannot renew may not act any more after 10 s, before anybody else may, and says so once', async () => {
    const server = new FakeLeases();
    const one = candidate(server, 'one');
    await one.acquired;
    await pass(2000);
    server.isAway = true;
    await pass(9999);
    one.leader.check();
    await pass(1);
    expect(() => one.leader.check()).toThrow('does not lead any more');
    await pass(60_000);
    expect(one.lost).toBe(1);
  });

  test('that can renew again in time goes on', async () => {
    const server = new FakeLeases();
    const one = candidate(server, 'one');
    await one.acquired;
    server.isAway = true;
    await pass(7500);
    server.isAway = false;
    await pass(60_000);
    one.leader.check();
    expect(one.lost).toBe(0);
    await one.leader.release();
  });

  test('that was frozen for longer than the lease acts no more, not even before its own timers ran', async () => {
    const server = new FakeLeases();
    const one = candidate(server, 'one');
    await one.acquired;
    // Frozen: time goes by, and no timer runs.
    vi.setSystemTime(Date.now() + 20_000);
    expect(() => one.leader.check()).toThrow('does not lead any more');
    const writes = server.writes;
    await pass(2000);
    expect(one.lost).toBe(1);
    expect(server.writes).toBe(writes);
  });

  test('that was frozen while it renewed does not send what it decided before', async () => {
    const server = new FakeLeases();
    const one = candidate(server, 'one');
    await one.acquired;
    await pass(2000);
    one.leader.checkLease();
    vi.setSystemTime(Date.now() + 10_000);
    expect(() => one.leader.checkLease()).toThrow('too late to write the lease');
  });

  test('acts no more when it could not renew, though its wall clock was set back', async () => {
    const server = new FakeLeases();
    const one = candidate(server, 'one');
    await one.acquired;
    server.isAway = true;
    vi.setSystemTime(Date.now() - 3_600_000);
    await pass(10_000);
    expect(() => one.leader.check()).toThrow('does not lead any more');
    await pass(2000);
    expect(one.lost).toBe(1);
  });

  test('whose lease somebody else holds notices at its next renewal', async () => {
    const server = new FakeLeases();
    const one = candidate(server, 'one');
    await one.acquired;
    const version = server.lease?.metadata.resourceVersion ?? '';
    await server.replace('', {
      metadata: { name: 'lease', resourceVersion: version },
      spec: heldBy('two', '2026-01-01T12:00:01.000000Z'),
    });
    await pass(2000);
    expect(one.lost).toBe(1);
    expect(() => one.leader.check()).toThrow('does not lead any more');
    expect(server.lease?.spec).toMatchObject({ holderIdentity: 'two' });
  });
});

function heldBy(holderIdentity: string, renewTime: string): Record<string, unknown> {
  return { holderIdentity, renewTime, leaseDurationSeconds: 15, leaseTransitions: 3 };
}
