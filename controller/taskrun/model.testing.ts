import { deepEqual, equal, ok } from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';

import fc from 'fast-check';

import { AppError } from '#shared/errors.ts';
import { KubeError } from '#shared/kubernetes/errors.ts';
import type { KubeObject, Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { FINALIZER, LABEL, secretName } from '#shared/names.ts';

import { HOST_ERROR, HostError } from '../host/contract.ts';
import {
  ARM,
  createCluster,
  NAMESPACE,
  pathOf,
  secretPathOf,
  type Cluster,
  type Intercept,
  type Process,
} from './reconciler.testing.ts';
import type { Fault } from './stand-in-api-server.ts';
import { viewOf } from './view.ts';

const HOST_LISTS: readonly (readonly [Record<string, number>, Record<string, string>?])[] = [
  [{ a: 1, b: 1 }],
  [{ a: 2 }],
  [{ b: 1 }],
  [{ a: 0, b: 2 }],
  [{ a: 1, b: 1 }, { 'local-platforms': ARM }],
  [{ a: 1 }, { 'wait-timeout.linux-arm64': '20s' }],
  [{}],
];

const name = fc.constantFrom('t0', 't1', 't2', 't3');
export const onOne = <const K extends string>(...kinds: K[]) => fc.record({ kind: fc.constantFrom(...kinds), name });
/** What happens in the cluster, without and with somebody who means ill. */
const honest = fc.oneof(
  { weight: 6, arbitrary: onOne('run', 'run', 'create', 'resolve') },
  { weight: 2, arbitrary: onOne('complete', 'delete', 'resolveAsOther') },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('tick'), ms: fc.constantFrom(300, 21_000) }) },
);
export const hostile = fc.oneof(
  { weight: 6, arbitrary: honest },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('hosts'), list: fc.nat(HOST_LISTS.length - 1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart') }) },
  { weight: 1, arbitrary: onOne('foreignSecret', 'dropSecret', 'dropVolume') },
  { weight: 1, arbitrary: onOne('stripLabels', 'stripFinalizer', 'stripHost', 'forgeHost') },
);
type Action = { kind: string; name?: string; ms?: number; list?: number };

const FAULTS = [
  'fails',
  'fails late',
  'lost',
  'lost late',
  'conflict',
  'conflict late',
  'forbidden',
  'dies',
  'dies late',
] as const;
type FaultKind = (typeof FAULTS)[number];

export interface Scenario {
  readonly watchesAll: boolean;
  readonly actions: readonly { action: Action; pause: number }[];
  /** By the number of the request. */
  readonly faults: readonly { at: number; kind: FaultKind }[];
  /** Which of those that could go on does, turn by turn. */
  readonly picks: readonly number[];
}

export const scenario = (actions: fc.Arbitrary<Action>, faults: number): fc.Arbitrary<Scenario> =>
  fc.record({
    watchesAll: fc.boolean(),
    actions: fc.array(fc.record({ action: actions, pause: fc.nat(12) }), { minLength: 5, maxLength: 20, size: 'max' }),
    faults: fc.uniqueArray(fc.record({ at: fc.nat(50), kind: fc.constantFrom(...FAULTS) }), {
      maxLength: faults,
      size: 'max',
      selector: ({ at }) => at,
    }),
    picks: fc.array(fc.nat(5), { minLength: 1, maxLength: 20 }),
  });

/** One scenario as it goes on: who waits to be let go on, and what was done to whom. */
export class Play {
  readonly cluster: Cluster;
  readonly #faults: Map<number, FaultKind>;
  readonly #picks: readonly number[];
  readonly #pending: (() => void)[] = [];
  #process: Process;
  #picked = 0;
  #requests = 0;
  #isDying = false;
  readonly #mostSlots = new Map<string, number>();
  /** UIDs of TaskRuns that somebody tampered with. */
  readonly #tampered = new Set<string>();
  /** Secrets that are not ours: path to UID. */
  readonly #foreign = new Map<string, string>();
  readonly #waited = new Set<string>();

  constructor({ watchesAll, faults, picks }: Scenario) {
    this.cluster = createCluster({ slots: { a: 1, b: 1 }, watchesAll });
    this.#faults = new Map(faults.map(({ at, kind }) => [at, kind]));
    this.#picks = picks;
    this.#process = this.#start();
  }

  #start(): Process {
    for (const host of ['a', 'b'])
      this.#mostSlots.set(host, Math.max(this.#mostSlots.get(host) ?? 0, this.cluster.capacityOf(host)));
    return this.cluster.start({ intercept: (request) => this.#intercept(request), deliver: () => this.#gate() });
  }

  #gate(): Promise<void> {
    return new Promise((resolve) => this.#pending.push(resolve));
  }

  readonly #intercept: Intercept = async (request) => {
    await this.#gate();
    const kind = this.#faults.get(this.#requests++);
    if (request.verb === 'createAccount') this.#mayBeMade(request.host);
    // No answer to a create, or a restart: what is found then is taken for ours.
    if ('dryRun' in request && (request.dryRun || (request.verb === 'create' && kind !== undefined)))
      this.#foreign.delete(request.path);
    if (kind === undefined) return null;
    if (kind.startsWith('dies')) this.#isDying = true;
    return 'path' in request ? apiFault(kind, request.verb, request.path) : hostFault(kind, request.verb);
  };

  /** Nothing is done on a host that is not written on a TaskRun with our finalizer. */
  #mayBeMade(host: string): void {
    if (this.#tampered.size > 0) return;
    const assigned = this.cluster.server
      .all('taskruns')
      .filter(({ metadata }) => metadata.labels?.[LABEL.assignedHost] === host);
    ok(assigned.some(({ metadata }) => metadata.finalizers?.includes(FINALIZER) === true));
  }

  /** Lets `count` of those that wait go on, one after the other. */
  async go(count: number): Promise<void> {
    for (; count > 0; count--) {
      await turn();
      const pick = (this.#picks[this.#picked++ % this.#picks.length] ?? 0) % Math.max(1, this.#pending.length);
      const [next] = this.#pending.splice(pick, 1);
      if (next === undefined) return;
      next();
      await turn();
      if (this.#isDying) this.restart();
      this.#check();
    }
  }

  /** Until nothing waits; retries are waited for, and what is out of sight is looked for. */
  async settle(): Promise<void> {
    for (let round = 0; round < 12; round++) {
      do await this.go(100);
      while (this.#pending.length > 0);
      this.cluster.clock.step(31_000);
      this.#process.scan();
    }
  }

  restart(): void {
    this.#isDying = false;
    this.#process.die();
    this.#pending.length = 0;
    this.#foreign.clear();
    this.#process = this.#start();
  }

  do({ kind, name: of = '', ms = 0, list = 0 }: Action): void {
    const { server, clock } = this.cluster;
    const found = server.find(pathOf(of));
    const uid = found?.metadata.uid ?? '';
    const tamper = (patch: object): void => {
      this.#tampered.add(uid);
      server.patch(pathOf(of), patch);
    };
    const [slots, more] = HOST_LISTS[list] ?? [{}];
    if (kind === 'tick') clock.step(ms);
    else if (kind === 'restart') this.restart();
    else if (kind === 'hosts') {
      this.cluster.setHosts(slots, more);
      for (const host of ['a', 'b'])
        this.#mostSlots.set(host, Math.max(this.#mostSlots.get(host) ?? 0, this.cluster.capacityOf(host)));
      this.#process.offer();
    } else if (kind === 'foreignSecret' && server.find(secretPathOf(of)) === undefined) {
      const foreign = server.create(PATH.secrets(NAMESPACE), { metadata: { name: secretName(of) } });
      this.#foreign.set(secretPathOf(of), foreign.metadata.uid ?? '');
    } else if ((kind === 'create' || kind === 'run') && found === undefined) {
      const marks = { finalizers: [FINALIZER], labels: { [LABEL.targetPlatform]: 'linux-arm64' } };
      this.cluster.create(of, this.cluster.isMarked ? marks : {});
      if (kind === 'run') this.cluster.resolve(of);
    } else if (found === undefined) return;
    else if (kind === 'resolve') this.cluster.resolve(of);
    else if (kind === 'resolveAsOther' && viewOf(found).mount === 'unresolved') this.cluster.resolve(of, 'other');
    else if (kind === 'complete') this.cluster.complete(of);
    else if (kind === 'delete') server.delete(pathOf(of));
    else if (kind === 'dropSecret' && isOurs(server.find(secretPathOf(of)))) {
      this.#tampered.add(uid);
      server.delete(secretPathOf(of));
    } else if (kind === 'dropVolume') tamper({ status: { taskSpec: { volumes: [] } } });
    else if (kind === 'stripLabels') tamper({ metadata: { labels: null } });
    else if (kind === 'stripFinalizer') tamper({ metadata: { finalizers: null } });
    else if (kind === 'stripHost') tamper({ metadata: { labels: { [LABEL.assignedHost]: null } } });
    else if (kind === 'forgeHost') tamper({ metadata: { labels: { [LABEL.assignedHost]: 'a' } } });
  }

  /** What holds at any time. */
  #check(): void {
    const { server, fleet } = this.cluster;
    const { pool } = this.#process;
    for (const [path, uid] of this.#foreign)
      equal(server.find(path)?.metadata.uid, uid, `${path} is not ours, and is gone`);
    const used = new Map<string, number>();
    for (const secret of server.all('secrets').filter(isOurs)) {
      const uid = secret.metadata.ownerReferences?.[0]?.uid ?? '';
      const owner = server.all('taskruns').find(({ metadata }) => metadata.uid === uid);
      if (owner === undefined) continue;
      const host = hostIn(secret);
      if (pool.isWaiting(uid)) this.#waited.add(owner.metadata.name);
      if (host !== undefined && fleet.of(host).has(uid)) used.set(host, (used.get(host) ?? 0) + 1);
      if (this.#tampered.has(uid)) continue;
      equal(pool.hostOf(uid), host, 'its Secret is for the host that it holds a slot on');
      const { done, deleting } = viewOf(owner);
      if (host !== undefined && !done && !deleting) ok(fleet.of(host).has(uid), 'its account is there');
    }
    for (const [host, count] of used) ok(count <= (this.#mostSlots.get(host) ?? 0), `${count} on ${host}`);
    for (const platform of pool.platforms())
      for (const uid of pool.waitingFor(platform)) {
        const waiting = server.all('taskruns').find(({ metadata }) => metadata.uid === uid);
        if (waiting !== undefined) this.#waited.add(waiting.metadata.name);
      }
  }

  /** Whoever may have a Secret has one, or waits for it; whoever is none of ours holds nothing. */
  everybodyIsServed(): void {
    const { server } = this.cluster;
    for (const object of server.all('taskruns')) {
      const { uid, mount, done, deleting, name: of } = viewOf(object);
      if (mount === 'not-mounted') equal(this.#process.pool.hostOf(uid), undefined);
      if (done || deleting || mount !== 'mounted' || this.#tampered.has(uid)) continue;
      ok(server.find(secretPathOf(of)) !== undefined || this.#process.pool.isWaiting(uid), `${of} is forgotten`);
    }
  }

  /** Ends all TaskRuns, after which nothing of them may be left. */
  async end(): Promise<void> {
    const { server, fleet } = this.cluster;
    for (const { metadata } of server.all('taskruns')) this.cluster.complete(metadata.name);
    await this.settle();
    for (const { metadata } of server.all('taskruns')) {
      deepEqual(metadata.finalizers ?? [], []);
      if (!this.#tampered.has(metadata.uid ?? '')) deepEqual(metadata.labels ?? {}, {});
      server.delete(pathOf(metadata.name));
    }
    await this.settle();
    if (this.#tampered.size > 0) server.collectGarbage();
    deepEqual(server.all('secrets').filter(isOurs), []);
    const owed = new Set(fleet.debts.map(({ host, taskRunUid }) => `${taskRunUid} on ${host}`));
    const left = [...fleet.accounts].flatMap(([host, uids]) => [...uids].map((uid) => `${uid} on ${host}`));
    deepEqual(
      left.filter((account) => !owed.has(account)),
      [],
    );
    const { pool } = this.#process;
    for (const { used } of pool.hosts()) equal(used, 0);
    equal(pool.waiting(ARM), 0);
    this.#process.die();
  }

  /** To a TaskRun, its Secret and its Pod; not those that were refused since the TaskRun is another by now, or gone. */
  writesOf(of: string): string[] {
    const paths = new Set([pathOf(of), secretPathOf(of), PATH.pods(NAMESPACE, `${of}-pod`)]);
    const writes = this.cluster.server.audit.filter(
      ({ verb, status, path }) => verb !== 'get' && status !== 409 && !(status === 404 && path === pathOf(of)),
    );
    return writes.filter(({ path }) => paths.has(path)).map(({ verb, path }) => `${verb} ${path}`);
  }

  hasWaited(of: string): boolean {
    return this.#waited.has(of);
  }
}

function isOurs(object: KubeObject | undefined): boolean {
  return object?.metadata.labels?.[LABEL.multiPlatformSecret] === 'true';
}

/** The host that a login is for. */
function hostIn(secret: KubeObject): string | undefined {
  // All Secrets are made by `buildSecret`.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return /@(.+)$/.exec((secret as Secret).stringData?.host ?? '')?.[1];
}

function apiFault(kind: FaultKind, verb: string, path: string): Fault | null {
  const isDone = kind.endsWith('late');
  if (kind.startsWith('fails')) return { isDone, error: new KubeError(path, 500, { reason: 'InternalError' }) };
  if (kind === 'conflict' && verb !== 'patch' && verb !== 'create') return null;
  if (kind === 'conflict late' && verb !== 'patch') return null;
  if (kind.startsWith('conflict')) return { isDone, error: new KubeError(path, 409, { reason: 'Conflict' }) };
  if (kind === 'forbidden')
    return verb === 'create' ? { isDone, error: new KubeError(path, 403, { reason: 'Forbidden' }) } : null;
  return { isDone, error: new AppError('kubernetes.unreachable', 'no answer') };
}

function hostFault(kind: FaultKind, verb: string): Fault {
  const isDone = kind.endsWith('late');
  // Debts, and records of hosts, are in the cluster.
  const isKube = verb === 'owe' || kind === 'conflict';
  if (isKube) return { isDone, error: new KubeError('PATCH', 500, { reason: 'InternalError' }) };
  const error = isDone
    ? new HostError(HOST_ERROR.timeout, 'no answer in time', { mayHaveActed: true })
    : new HostError(HOST_ERROR.unreachable, 'no route to it', { mayHaveActed: kind === 'lost' });
  return { isDone, error };
}

/** Plays it to its end, checking all the way what must hold. */
export async function play(scene: Scenario): Promise<Play> {
  const current = new Play(scene);
  for (const { action, pause } of scene.actions) {
    current.do(action);
    await current.go(pause);
  }
  await current.settle();
  current.everybodyIsServed();
  await current.end();
  return current;
}
