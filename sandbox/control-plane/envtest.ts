import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '#shared/errors.ts';
import { spawnTied } from '../process.ts';
import type { Workplace } from './cache.ts';
import { readChecksums } from './checksums.ts';
import { type Fetch, download } from './download.ts';
import type { Machine } from './machine.ts';

/** Not each patch release is published as such an archive; each minor release is. */
const VERSION = 'v1.37.0';

const RELEASES = 'https://github.com/kubernetes-sigs/controller-tools/releases/download';

/** Name of the archive without its ending. */
export function envtestName({ os, arch }: Machine): string {
  return `envtest-${VERSION}-${os}-${arch}`;
}

/** SHA-512 sums of the archives, as controller-tools publishes them in its envtest-releases.yaml. By name. */
export function envtestChecksums(): Promise<ReadonlyMap<string, string>> {
  return readChecksums(new URL('envtest.sha512', import.meta.url));
}

/**
 * Puts `kube-apiserver` and `etcd` into `folder`, from the archive that Kubernetes' own controller projects test with.
 *
 * @throws AppError `no-archive` where none is published for this kind of machine, `download-failed`, `wrong-checksum`, `tar-failed`
 */
export async function fetchEnvtest(
  folder: string,
  options: Workplace & {
    readonly machine: Machine;
    readonly checksums: ReadonlyMap<string, string>;
    readonly fetch: Fetch;
  },
): Promise<void> {
  const { machine, checksums, env, progress, fetch } = options;
  const archive = `${envtestName(machine)}.tar.gz`;
  const digest = checksums.get(archive);
  if (digest === undefined) throw new AppError('no-archive', `none is published for ${machine.os}/${machine.arch}`);
  progress.step(`fetching kube-apiserver and etcd (${archive})`);
  const target = path.join(folder, archive);
  try {
    await download({
      url: `${RELEASES}/envtest-${VERSION}/${archive}`,
      target,
      checksum: { algorithm: 'sha512', digest },
      fetch,
      onProgress: (bytes, total) => progress.update(`${archive}: ${megabytes(bytes)} of ${megabytes(total)} MB`),
    });
  } finally {
    progress.update('');
  }
  await unpack(target, folder, env);
  await rm(target);
}

async function unpack(archive: string, folder: string, env: NodeJS.ProcessEnv): Promise<void> {
  const inside = ['controller-tools/envtest/kube-apiserver', 'controller-tools/envtest/etcd'];
  const tar = spawnTied('tar', ['-xzf', archive, '-C', folder, '--strip-components=2', ...inside], {
    env,
    stdio: 'ignore',
  });
  const [code]: unknown[] = await once(tar, 'exit').catch(() => []);
  if (code !== 0) throw new AppError('tar-failed', `tar cannot unpack ${path.basename(archive)}`);
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}
