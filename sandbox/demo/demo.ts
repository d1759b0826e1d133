import { performance } from 'node:perf_hooks';
import type { Clock } from '#shared/clock.ts';
import { AppError } from '#shared/errors.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { createLog } from '#shared/log.ts';
import type { HostKind } from '../hosts/host.ts';
import { ensureCommands } from '../packages.ts';
import type { Progress } from '../progress.ts';
import { type Sandbox, startSandbox } from '../sandbox.ts';
import { Observer } from './observer.ts';
import { type Findings, reportOf } from './report.ts';
import type { Screen } from './screen.ts';
import { render } from './view.ts';
import { createTaskRuns, createTasks, HOSTS, type Job, jobs, NAMESPACE } from './workload.ts';

const DRAW_EVERY_MS = 100;

/** Far more than it takes; what has not ended by then is reported. */
const PATIENCE_MS = 180_000;

export async function startDemoSandbox(options: {
  hostKind: HostKind | 'auto';
  env: NodeJS.ProcessEnv;
  progress: Progress;
  signal: AbortSignal;
}): Promise<Sandbox> {
  const { progress } = options;
  await ensureCommands(['gcc', 'make', 'rsync', 'ssh'], (line) => progress.step(line));
  return await startSandbox({ hosts: HOSTS, ...options });
}

/** Runs the TaskRuns and looks at what became of them. `startMs` is when the demo began, by `performance.now()`. */
export async function runDemo(options: {
  sandbox: Sandbox;
  screen: Screen;
  progress: Progress;
  clock: Clock;
  builds: number;
  startMs: number;
}): Promise<ReturnType<typeof reportOf>> {
  const { sandbox, screen, progress, clock, builds, startMs } = options;
  const { client } = sandbox;
  await sandbox.createNamespace(NAMESPACE);
  await createTasks(client);

  const events: string[] = [];
  const all = jobs(builds);
  const slots = new Map(HOSTS.map((host) => [host.name, host.slots]));
  const log = createLog({ level: 'warn', destination: { write: (line) => progress.step(line.trim()) } });
  const onEvent = (line: string): void => {
    events.push(line);
    screen.event(`${((performance.now() - startMs) / 1000).toFixed(1).padStart(5)} s  ${line}`);
  };
  const observer = new Observer({ client, hosts: sandbox.hosts, slots, jobs: all, onEvent, clock, log });
  const draw = (): void =>
    screen.draw((columns) =>
      render(
        {
          seconds: (performance.now() - startMs) / 1000,
          hosts: HOSTS.map((host) => ({ ...host, accounts: observer.accounts.get(host.name)?.length ?? 0 })),
          taskRuns: [...observer.taskRuns.values()],
          events,
        },
        columns,
      ),
    );
  await observer.start();
  try {
    await createTaskRuns(client, all);
    const deadline = clock.now() + PATIENCE_MS;
    while (!observer.isOver && clock.now() < deadline) {
      draw();
      failWhereDead(sandbox);
      await clock.sleep(DRAW_EVERY_MS);
    }
    draw();
  } finally {
    await observer.stop();
  }
  return reportOf(await findingsOf(sandbox, observer, all, startMs));
}

function failWhereDead({ controller, webhook }: Sandbox): void {
  for (const { name, pid, logPath } of [controller, webhook]) {
    if (pid === 0) throw new AppError('process-died', `the ${name} has died; its log: ${logPath}`);
  }
}

/** Asks the hosts themselves, and the API server anew. */
async function findingsOf(
  sandbox: Sandbox,
  observer: Observer,
  all: readonly Job[],
  startMs: number,
): Promise<Findings> {
  const { client, hosts, taskRunner } = sandbox;
  const [accounts, traces, secrets, logs] = await Promise.all([
    Promise.all(hosts.map(async (host) => (await host.accounts()).map((account) => `${account} on ${host.name}`))),
    Promise.all(hosts.map(async (host) => tracesOn(host.name, [...(await host.homes()), ...(await host.leftovers())]))),
    client.list(PATH.secrets(NAMESPACE)),
    Promise.all(all.map(async ({ name }) => [name, (await taskRunner?.logOf(NAMESPACE, name)) ?? ''] as const)),
  ]);
  return {
    taskRuns: [...observer.taskRuns.values()],
    logs: new Map(logs),
    overCommitted: observer.overCommitted,
    accountsLeft: accounts.flat(),
    otherTraces: traces.flat(),
    // Nothing else makes Secrets in this namespace.
    secretsLeft: secrets.items.map(({ metadata }) => metadata.name),
    seconds: (performance.now() - startMs) / 1000,
    hostKind: sandbox.hostKind,
  };
}

function tracesOn(host: string, traces: readonly string[]): string[] {
  return traces.map((trace) => `${trace} on ${host}`);
}
