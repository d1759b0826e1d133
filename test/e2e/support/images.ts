import { mkdir, copyFile } from 'node:fs/promises';
import path from 'node:path';
import { mustRun } from '#sandbox/hosts/command.ts';
import type { Registry } from './registry.ts';

export interface Images {
  /** What builds images: buildah, and all that a remote step needs. 75 MB. */
  readonly builder: string;
  /** What other steps run in: bash, jq and the like. */
  readonly shell: string;
  /** A base image: busybox alone. */
  readonly base: string;
}

const SHELL = ['bash', 'coreutils', 'dash', 'findutils', 'grep', 'jq', 'sed'];
const BUILDER = [
  'buildah',
  'ca-certificates',
  'curl',
  'gzip',
  'libc-bin',
  'openssh-client',
  'rsync',
  'tar',
  'uidmap',
  'util-linux',
];

/** Makes them out of this machine's own programs and pushes them. */
export async function pushImages(registry: Registry, folder: string): Promise<Images> {
  const script = path.join(import.meta.dirname, 'image-root.sh');
  const builder = path.join(folder, 'builder');
  const shell = path.join(folder, 'shell');
  await mustRun('bash', [script, builder, ...SHELL, ...BUILDER]);
  await mustRun('bash', [script, shell, ...SHELL]);
  const base = path.join(folder, 'base');
  await mkdir(path.join(base, 'bin'), { recursive: true });
  await copyFile('/bin/busybox', path.join(base, 'bin/busybox'));
  await mustRun('sh', ['-c', 'chroot "$1" /bin/busybox --install -s /bin', 'sh', base]);
  return {
    builder: await push(registry, { name: 'builder', folder: builder, storage: folder }),
    shell: await push(registry, { name: 'shell', folder: shell, storage: folder }),
    base: await push(registry, { name: 'busybox', folder: base, storage: folder }),
  };
}

async function push(registry: Registry, image: { name: string; folder: string; storage: string }): Promise<string> {
  const { storage } = image;
  const options = ['--root', path.join(storage, 'root'), '--runroot', path.join(storage, 'runroot')];
  const buildah = async (...args: readonly string[]): Promise<string> =>
    (await mustRun('buildah', [...options, '--storage-driver', 'vfs', ...args])).trim();
  const name = `${registry.name}/sandbox/${image.name}:1`;
  const container = await buildah('from', 'scratch');
  await buildah('add', '--quiet', container, image.folder, '/');
  await buildah('config', '--env', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', container);
  await buildah('commit', '--quiet', '--rm', container, name);
  await buildah('push', '--quiet', '--tls-verify=false', '--creds', `${registry.user}:${registry.password}`, name);
  return name;
}
