import { setImmediate as turn } from 'node:timers/promises';

import { parseHostConfig, type HostConfig } from '#shared/host-config.ts';
import { createLog } from '#shared/log.ts';
import { createRegistry } from '#shared/observability.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { LABEL, secretName } from '#shared/names.ts';

import type { EventKind } from '../events.ts';
import { createSteppedClock } from '../host/stand-in-ssh-server.ts';
import { createMetrics } from '../metrics.ts';
import { Pool } from '../pool/pool.ts';
import { TaskRunReconciler } from './reconciler.ts';
import { StandInApiServer, type ApiRequest, type Fault } from './stand-in-api-server.ts';
import { StandInFleet, type FleetRequest } from './stand-in-fleet.ts';
import { viewOf } from './view.ts';

export const NAMESPACE = 'ns';
export const ARM = 'linux/arm64';

export function hostList(
  slots: Readonly<Record<string, number>>,
  more: Readonly<Record<string, string>> = {},
): HostConfig {
  const entries = Object.entries(slots).flatMap(([name, concurrency]) => [
    [`host.${name}.address`, name],
    [`host.${name}.user`, 'root'],
    [`host.${name}.platform`, ARM],
    [`host.${name}.secret`, 'key'],
    [`host.${name}.concurrency`, String(concurrency)],
  ]);
  return parseHostConfig({ ...Object.fromEntries(entries), ...more });
}

export const pathOf = (name: string): string => PATH.taskRuns(NAMESPACE, name);
export const secretPathOf = (name: string): string => PATH.secrets(NAMESPACE, secretName(name));

export type Intercept = (request: ApiRequest | FleetRequest) => Promise<Fault | null>;

export type Cluster = ReturnType<typeof createCluster>;
export type Process = ReturnType<Cluster['start']>;

/** API server and hosts as stand-ins, with one process after the other that reconciles TaskRuns in front of them. */
export function createCluster({ slots, watchesAll = true }: { slots: Record<string, number>; watchesAll?: boolean }) {
  const server = new StandInApiServer();
  const fleet = new StandInFleet();
  const clock = createSteppedClock();
  let config = hostList(slots);

  const isSeen = (labels: Readonly<Record<string, string>> = {}): boolean =>
    watchesAll || labels[LABEL.targetPlatform] !== undefined;

  /** `deliver` holds back what the watch brings. */
  const start = ({
    intercept = async () => null,
    deliver = async () => {},
  }: { intercept?: Intercept; deliver?: () => Promise<void> } = {}) => {
    const pool = new Pool();
    const events: { kind: EventKind; name: string; message: string }[] = [];
    const logged: string[] = [];
    let isDead = false;
    /** Nothing that a dead process waits for ever comes. */
    const whileAlive = async <T>(promise: Promise<T>): Promise<T> => {
      const result = await promise;
      return isDead ? await new Promise<never>(() => {}) : result;
    };
    const reconciler = new TaskRunReconciler({
      client: server.connect((request) => whileAlive(intercept(request))),
      fleet: fleet.connect((request) => whileAlive(intercept(request))),
      pool,
      events: { record: (kind, { name }, message) => void events.push({ kind, name, message }) },
      metrics: createMetrics(createRegistry()),
      configState: () => ({ config }),
      watchesAll,
      letGoAfterMs: 60_000,
      limits: {},
      generateKeyPair: async () => ({ privateKey: 'private', publicKey: 'public' }),
      clock,
      log: createLog({ level: 'warn', destination: { write: (line: string) => void logged.push(line) } }),
    });
    const offer = (): void => {
      const hosts = [...config.hosts.values()];
      fleet.listed = new Set(hosts.map(({ name }) => name));
      reconciler.applyChanges(
        pool.configure(hosts.map(({ name, platform, concurrency }) => ({ name, platform, capacity: concurrency }))),
      );
      reconciler.reconsiderAll();
    };
    offer();
    const seen = new Set(server.all('taskruns').filter(({ metadata }) => isSeen(metadata.labels)));
    reconciler.restore([...seen].map(viewOf));
    fleet.sweep((uid) => pool.hostOf(uid));
    const watched = new Set([...seen].map(({ metadata }) => metadata.uid));
    let delivered = Promise.resolve();
    const unwatch = server.watch((object, isGone) => {
      const view = viewOf(object);
      delivered = delivered.then(deliver).then(() => {
        if (isDead) return;
        if (!isGone && isSeen(object.metadata.labels)) {
          watched.add(view.uid);
          reconciler.offer(view);
        } else if (watched.delete(view.uid)) {
          reconciler.lose(view);
        }
      });
    });
    return {
      pool,
      reconciler,
      events,
      logged,
      offer,
      /** Finds what the watch does not show. */
      scan: () => {
        const unseen = server.all('taskruns').filter(({ metadata }) => !isSeen(metadata.labels));
        for (const object of unseen) reconciler.offer(viewOf(object));
      },
      die: () => {
        isDead = true;
        unwatch();
        void reconciler.stop();
      },
    };
  };

  return {
    server,
    fleet,
    clock,
    start,
    setHosts: (next: Record<string, number>, more: Record<string, string> = {}) => void (config = hostList(next, more)),
    capacityOf: (host: string): number => config.hosts.get(host)?.concurrency ?? 0,
    /** As a webhook does that is up. */
    isMarked: !watchesAll,
    create: (name: string, metadata: object = {}, platform: unknown = ARM) =>
      server.create(PATH.taskRuns(NAMESPACE), {
        metadata: { creationTimestamp: new Date(clock.now()).toISOString(), ...metadata, name },
        spec: { params: [{ name: 'PLATFORM', value: platform }] },
      }),
    resolve: (name: string, secret = secretName(name)) =>
      server.patch(pathOf(name), {
        status: { podName: `${name}-pod`, taskSpec: { volumes: [{ secret: { secretName: secret } }] } },
      }),
    complete: (name: string) =>
      server.patch(pathOf(name), { status: { completionTime: new Date(clock.now()).toISOString() } }),
  };
}

/** Lets all that can go on without time go on. */
export async function settle(): Promise<void> {
  for (let count = 0; count < 20; count++) await turn();
}
