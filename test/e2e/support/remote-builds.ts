import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { createProgress } from '#sandbox/progress.ts';
import { ensureCommands } from '#sandbox/packages.ts';
import { type Sandbox, type SandboxHostSpec, startSandbox } from '#sandbox/sandbox.ts';
import type { Step, Task, TaskSpec } from '#sandbox/task-runner/tekton-types.ts';
import { systemClock } from '#shared/clock.ts';
import { PLATFORM_PARAM } from '#shared/names.ts';
import { readScriptParts } from '#taskgen/script-parts.ts';
import { remoteTwin } from '#taskgen/twin.ts';
import { BUILDS, type BuildTaskRun, builds, outcomeOf, until } from './builds.ts';
import { type Images, pushImages } from './images.ts';
import { type Registry, startRegistry } from './registry.ts';

/** A sandbox whose hosts reach a registry that has an image to build in and one to build on. */
export interface BuildCluster {
  readonly sandbox: Sandbox;
  readonly on: ReturnType<typeof builds>;
  readonly registry: Registry;
  readonly images: Images;
  stop(): Promise<void>;
}

export async function startBuildCluster(hosts: readonly SandboxHostSpec[]): Promise<BuildCluster> {
  const progress = createProgress({ output: process.stdout, clock: systemClock });
  await ensureCommands(['podman', 'buildah', 'busybox', 'curl', 'jq', 'rsync', 'ssh', 'newuidmap'], (line) =>
    progress.step(line),
  );
  await using cleanup = new AsyncDisposableStack();
  const sandbox = await startSandbox({ hosts, localPlatforms: ['linux/x86_64'], env: process.env, progress });
  cleanup.defer(async () => await sandbox.stop());
  await sandbox.createNamespace(BUILDS);
  const folder = path.join(sandbox.folder, 'registry');
  await mkdir(folder);
  // This machine's end of the hosts' cables.
  const address = sandbox.hosts[0]?.address.replace(/\d+$/, '1') ?? '127.0.0.1';
  const registry = await startRegistry(address, folder, { env: process.env, progress });
  cleanup.defer(async () => await registry.stop());
  const images = await pushImages(registry, folder);
  const configuration = `[[registry]]\nlocation = "${registry.name}"\ninsecure = true\n`;
  const configure = 'mkdir -p /etc/containers/registries.conf.d; cat >/etc/containers/registries.conf.d/sandbox.conf';
  for (const host of sandbox.hosts) await host.exec(['sh', '-c', configure], { input: configuration });
  const kept = cleanup.move();
  return { sandbox, on: builds(sandbox), registry, images, stop: async () => await kept.disposeAsync() };
}

/** The remote twin's spec. A Task that is not YAML yet becomes some. */
export function twinOf(task: string | { spec: object }, step?: string): TaskSpec {
  const text =
    typeof task === 'string'
      ? task
      : stringify({ apiVersion: 'tekton.dev/v1', kind: 'Task', metadata: { name: 'task' }, ...task });
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only a Task comes out of it
  return (parse(remoteTwin(text, { step, parts: readScriptParts() })) as Task).spec;
}

/** The remote twin's spec of a Task of one step called `build`. */
export function remoteTask({ images }: BuildCluster, step: Partial<Step>, spec: Partial<TaskSpec> = {}): TaskSpec {
  return twinOf({ spec: { ...spec, steps: [{ name: 'build', image: images.shell, ...step }] } });
}

export interface Run {
  readonly name: string;
  readonly spec: TaskSpec;
  /** Default: `linux/arm64`. */
  readonly platform?: string;
  readonly params?: Readonly<Record<string, string | string[]>>;
  /** On the cluster's side, before all others and behind them. */
  readonly before?: string;
  readonly after?: string;
  /** What a workspace is, by its name. */
  readonly bindings?: Readonly<Record<string, object>>;
}

/**
 * Runs a Task whose workspaces are empty folders where nothing else is said. Tekton would put the registries' credentials into every step's home; here the
 * first step does, and all have the same home.
 */
export async function startRun({ on, registry }: BuildCluster, run: Run): Promise<void> {
  const { spec, platform = 'linux/arm64', params = {}, before = '', after, bindings = {} } = run;
  const mounts = (spec.stepTemplate?.volumeMounts ?? []).concat(
    spec.steps?.flatMap(({ volumeMounts = [] }) => volumeMounts) ?? [],
  );
  const storage = mounts.filter(({ mountPath }) => mountPath === '/var/lib/containers').slice(0, 1);
  const logIn = `mkdir -p ~/.docker\ncat >~/.docker/config.json <<'CONFIG'\n${registry.dockerConfig}\nCONFIG\n`;
  const first: Step = {
    name: 'a-before',
    image: 'not-pulled',
    script: `#!/bin/bash\nset -eu\n${logIn}${before}\n`,
    volumeMounts: storage,
  };
  const last: Step = {
    name: 'z-after',
    image: 'not-pulled',
    script: `#!/bin/bash\nset -eu\n${after}\n`,
    volumeMounts: storage,
  };
  const workspaces = spec.workspaces ?? [];
  await on.create({
    name: run.name,
    spec: {
      params: Object.entries({ [PLATFORM_PARAM]: platform, ...params }).map(([name, value]) => ({ name, value })),
      workspaces: workspaces.map(({ name }) => ({ name, ...(bindings[name] ?? { emptyDir: {} }) })),
      taskSpec: {
        ...spec,
        stepTemplate: {
          ...spec.stepTemplate,
          env: [...(spec.stepTemplate?.env ?? []), { name: 'HOME', value: '/tekton/home' }],
        },
        steps: [first, ...(spec.steps ?? []), ...(after === undefined ? [] : [last])],
      },
    },
  });
}

export interface Ended {
  readonly taskRun: BuildTaskRun;
  readonly log: string;
  /** What the steps printed by {@link SHOW}. */
  readonly shown: Readonly<Record<string, string>>;
  /** Of the Task. */
  readonly results: Readonly<Record<string, string>>;
}

/** For the steps on the cluster's side: `show NAME FILE` hands a file's content to the test, byte for byte. */
export const SHOW = 'show() { echo "shown $1 $(base64 -w0 "$2")"; }\n';

/** Waits until it has ended, and until nothing of it is left in the cluster or on its host. */
export async function endOf({ on }: BuildCluster, name: string): Promise<Ended> {
  await ended({ on }, name);
  const taskRun = await on.released(name);
  const log = await on.log(name);
  const shown = [...log.matchAll(/^shown (?<what>\S+) (?<content>\S*)$/gm)].map(({ groups }) => [
    groups?.['what'] ?? '',
    Buffer.from(groups?.['content'] ?? '', 'base64').toString(),
  ]);
  const { results = [] } = Results.parse(taskRun.status);
  return {
    taskRun,
    log,
    shown: Object.fromEntries(shown),
    results: Object.fromEntries(results.map((result) => [result.name, result.value])),
  };
}

/** Waits until it has ended; its host may not be cleared yet. */
export async function ended({ on }: Pick<BuildCluster, 'on'>, name: string): Promise<void> {
  const hasEnded = async (): Promise<true | null> => {
    const taskRun = await on.get(name);
    return taskRun !== null && outcomeOf(taskRun) !== 'Unknown' ? true : null;
  };
  await until(`TaskRun ${name} to end`, hasEnded, 240_000);
}

const Results = z.object({ results: z.array(z.object({ name: z.string(), value: z.string() })).optional() });
