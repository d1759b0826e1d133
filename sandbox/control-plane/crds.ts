import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '#shared/errors.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { KubeError } from '#shared/kubernetes/errors.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';

interface Crd extends KubeObject {
  readonly spec: {
    readonly group: string;
    readonly names: { readonly plural: string };
    readonly versions: readonly { readonly name: string; readonly served: boolean }[];
  };
}

const SERVED_WITHIN_MS = 30_000;
const POLL_MS = 50;

/** Creates the CustomResourceDefinitions in the file and returns when the API server answers for each version of each. */
export async function installCrds(client: KubeClient, file: string): Promise<void> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the API server checks it
  const crds = JSON.parse(await readFile(file, 'utf8')) as Crd[];
  const deadline = performance.now() + SERVED_WITHIN_MS;
  const install = async (crd: Crd): Promise<void> => {
    await client.create('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', crd);
    for (const { name } of crd.spec.versions.filter(({ served }) => served)) {
      await waitUntilServed(client, `/apis/${crd.spec.group}/${name}/${crd.spec.names.plural}`, deadline);
    }
  };
  await Promise.all(crds.map(install));
}

/** The condition `Established` says that the API server may serve it, not that it does already. */
async function waitUntilServed(client: KubeClient, path: string, deadline: number): Promise<void> {
  for (;;) {
    try {
      await client.list(path, { limit: 1 });
      return;
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      if (performance.now() > deadline) {
        throw new AppError('not-served', `the API server does not serve ${path}: ${error.message}`, { cause: error });
      }
      await sleep(POLL_MS);
    }
  }
}
