import path from 'node:path';
import { AppError, messageOf } from '#shared/errors.ts';
import { type CacheEntry, type Workplace, fillCache, findCached, holdsAll } from './cache.ts';
import type { Fetch } from './download.ts';
import { envtestChecksums, envtestName, fetchEnvtest } from './envtest.ts';
import { type GoTool, buildGoTool, pinnedVersion } from './go.ts';
import { type Machine, thisMachine } from './machine.ts';
import { ensureTektonCrds } from './tekton-crds.ts';

/** All that a control plane is made of, on disk. */
export interface ControlPlaneAssets {
  /** Path of the program. */
  readonly kubeApiServer: string;
  /** Path of the program. */
  readonly etcd: string;
  /** Path of a JSON list of CustomResourceDefinitions. */
  readonly crds: string;
}

type Binaries = Omit<ControlPlaneAssets, 'crds'>;

export type AssetOptions = Workplace & { readonly fetch?: Fetch };

const KUBE_API_SERVER: GoTool = {
  name: 'kube-apiserver',
  tools: 'kubernetes',
  module: 'k8s.io/kubernetes',
  package: 'k8s.io/kubernetes/cmd/kube-apiserver',
  firstBuild: '5 to 8 minutes on two cores',
  // Tekton refuses a server that does not know its own version.
  variables: (version) => {
    const [major = '', minor = ''] = version.slice(1).split('.');
    const prefix = 'k8s.io/component-base/version.';
    return {
      [`${prefix}gitVersion`]: version,
      [`${prefix}gitMajor`]: major,
      [`${prefix}gitMinor`]: minor,
      [`${prefix}gitCommit`]: 'unknown',
      [`${prefix}gitTreeState`]: 'clean',
    };
  },
};

const ETCD: GoTool = {
  name: 'etcd',
  tools: 'etcd',
  module: 'go.etcd.io/etcd/server/v3',
  package: 'go.etcd.io/etcd/server/v3',
  firstBuild: 'about a minute on two cores',
};

const HELM: GoTool = {
  name: 'helm',
  tools: 'helm',
  module: 'helm.sh/helm/v4',
  package: 'helm.sh/helm/v4/cmd/helm',
  firstBuild: '2 to 4 minutes on two cores',
};

const KUBECTL: GoTool = {
  name: 'kubectl',
  tools: 'kubernetes',
  module: 'k8s.io/kubernetes',
  package: 'k8s.io/kubernetes/cmd/kubectl',
  firstBuild: '1 to 3 minutes on two cores',
};

const TOOLS = { helm: HELM, kubectl: KUBECTL } as const;

/**
 * Gives what a control plane needs, and fetches or builds what is not there yet: `KUBEBUILDER_ASSETS`, the cache, the envtest
 * archive, Go, in this order (docs/decisions/0001-control-plane-binaries.md). With all in the cache it takes milliseconds.
 *
 * @throws AppError `incomplete-assets` where `KUBEBUILDER_ASSETS` lacks a program; `no-control-plane` and `no-tekton-crds` where
 *   nothing works: one message each that says what to install
 */
export async function ensureControlPlaneAssets(options: AssetOptions): Promise<ControlPlaneAssets> {
  const fetch = options.fetch ?? globalThis.fetch;
  const binaries = await ensureBinaries({ ...options, fetch });
  return { ...binaries, crds: await ensureTektonCrds({ ...options, fetch }) };
}

/**
 * Path of the program, built by Go where it is not in the cache.
 *
 * @throws AppError `no-tool`: one message that says what to install
 */
export async function ensureTool(name: keyof typeof TOOLS, workplace: Workplace): Promise<string> {
  const tool = TOOLS[name];
  try {
    return await ensureGoTool(tool, workplace);
  } catch (cause) {
    const message = `cannot build ${name} (${messageOf(cause)}): install Go 1.26 or newer (https://go.dev/dl)`;
    throw new AppError('no-tool', message, { cause });
  }
}

/** The programs alone. */
export async function ensureBinaries(workplace: Workplace & { readonly fetch: Fetch }): Promise<Binaries> {
  const given = workplace.env['KUBEBUILDER_ASSETS'];
  if (given !== undefined && given !== '') return await givenBinaries(given);
  const machine = thisMachine();
  const archive: CacheEntry = { name: envtestName(machine), files: ['kube-apiserver', 'etcd'] };

  const [kubeApiServer, etcd, unpacked] = await Promise.all([
    findGoTool(KUBE_API_SERVER, workplace),
    findGoTool(ETCD, workplace),
    findCached(archive, workplace),
  ]);
  if (kubeApiServer !== undefined && etcd !== undefined) return { kubeApiServer, etcd };
  if (unpacked !== undefined) return binariesIn(unpacked);

  let whyNoArchive: unknown;
  try {
    return binariesIn(
      await fillCache(archive, workplace, async (folder) => {
        await fetchEnvtest(folder, { ...workplace, machine, checksums: await envtestChecksums() });
      }),
    );
  } catch (error) {
    whyNoArchive = error;
    workplace.progress.step(`no envtest archive: ${messageOf(error)}`);
  }
  try {
    return {
      etcd: await ensureGoTool(ETCD, workplace),
      kubeApiServer: await ensureGoTool(KUBE_API_SERVER, workplace),
    };
  } catch (cause) {
    throw new AppError(
      'no-control-plane',
      `cannot get kube-apiserver and etcd (archive: ${messageOf(whyNoArchive)}; Go: ${messageOf(cause)}): install Go 1.26 or ` +
        'newer (https://go.dev/dl), or let this machine reach github.com, or set KUBEBUILDER_ASSETS to a folder that holds both',
      { cause },
    );
  }
}

async function givenBinaries(folder: string): Promise<Binaries> {
  if (await holdsAll(folder, ['kube-apiserver', 'etcd'])) return binariesIn(path.resolve(folder));
  throw new AppError(
    'incomplete-assets',
    `KUBEBUILDER_ASSETS is ${folder}, but kube-apiserver and etcd are not both there: correct it or unset it`,
  );
}

function binariesIn(folder: string): Binaries {
  return { kubeApiServer: path.join(folder, 'kube-apiserver'), etcd: path.join(folder, 'etcd') };
}

async function findGoTool(tool: GoTool, workplace: Workplace): Promise<string | undefined> {
  const folder = await findCached(await goToolEntry(tool, thisMachine()), workplace);
  return folder === undefined ? undefined : path.join(folder, tool.name);
}

async function ensureGoTool(tool: GoTool, workplace: Workplace): Promise<string> {
  const entry = await goToolEntry(tool, thisMachine());
  const folder = await fillCache(entry, workplace, async (draft) => await buildGoTool(tool, draft, workplace));
  return path.join(folder, tool.name);
}

async function goToolEntry(tool: GoTool, { os, arch }: Machine): Promise<CacheEntry> {
  return { name: `${tool.name}-${await pinnedVersion(tool)}-${os}-${arch}`, files: [tool.name] };
}
