import path from 'node:path';

import { mustRun, runCommand } from '#sandbox/hosts/command.ts';
import type { ExecResult } from '#sandbox/hosts/host.ts';
import { parseAllDocuments } from 'yaml';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';

import { toolPath } from './tools.ts';

export const CHART = path.join(import.meta.dirname, '..', '..', '..', 'charts', 'multi-platform-controller');

export interface Helm {
  /** With the values, where there are any, on standard input: as JSON, since Go's YAML takes `yes` for true. */
  run(args: readonly string[], values?: object): Promise<ExecResult>;
  /** @throws AppError `command-failed` */
  must(args: readonly string[], values?: object): Promise<string>;
}

/** The real Helm, with nothing of this user's own: its files go to `folder`. */
export async function useHelm(options: { kubeconfig: string; folder: string }): Promise<Helm> {
  const { kubeconfig, folder } = options;
  const helm = await toolPath('helm');
  const env = { PATH: process.env.PATH ?? '', HOME: folder, KUBECONFIG: kubeconfig };
  const withValues = (args: readonly string[], values: object | undefined): string[] =>
    values === undefined ? [...args] : [...args, '--values', '-'];
  const input = (values: object | undefined) => ({ env, ...(values && { input: JSON.stringify(values) }) });
  return {
    run: (args, values) => runCommand(helm, withValues(args, values), input(values)),
    must: (args, values) => mustRun(helm, withValues(args, values), input(values)),
  };
}

/** The objects of a rendered manifest. */
export function objectsOf(manifest: string): KubeObject[] {
  return parseAllDocuments(manifest)
    .map((document): unknown => document.toJS())
    .filter((object) => object !== null) as KubeObject[];
}

interface Resources {
  resources: { name: string; kind: string; namespaced: boolean }[];
}

/** The path to which an object of this kind is posted. `namespace` is for one that names none. */
export async function collectionOf(
  client: KubeClient,
  { apiVersion = '', kind, metadata }: KubeObject,
  namespace = 'default',
): Promise<string> {
  const root = apiVersion === 'v1' ? '/api/v1' : `/apis/${apiVersion}`;
  const { resources } = await client.request<Resources>('GET', root);
  const found = resources.find((resource) => resource.kind === kind && !resource.name.includes('/'));
  if (found === undefined) throw new Error(`the API server knows no ${kind}`);
  return `${root}${found.namespaced ? `/namespaces/${metadata.namespace ?? namespace}` : ''}/${found.name}`;
}

/** Says of a Job what its controller would say. */
export async function finishJob(client: KubeClient, job: string): Promise<void> {
  const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  const condition = { status: 'True', lastTransitionTime: now, lastProbeTime: now, reason: 'CompletionsReached' };
  const conditions = ['SuccessCriteriaMet', 'Complete'].map((type) => ({ type, ...condition }));
  const status = { startTime: now, completionTime: now, succeeded: 1, conditions };
  await client.patch(`${job}/status`, { status });
}
