import path from 'node:path';
import { quote } from '#controller/host/quote.ts';
import type { ContainerRun } from './runtime.ts';

/** The container's own, empty at first: what the machine's people keep there is none of its business. */
export const PRIVATE_FOLDERS: readonly { folder: string; mountPath: string; mode: number }[] = [
  { folder: 'tmp', mountPath: '/tmp', mode: 0o1777 },
  { folder: 'var-tmp', mountPath: '/var/tmp', mode: 0o1777 },
  { folder: 'run', mountPath: '/run', mode: 0o755 },
  { folder: 'home', mountPath: '/home', mode: 0o755 },
  { folder: 'root-home', mountPath: '/root', mode: 0o700 },
];

/** Where the machine's root stands while a container is made ready. */
const OLD_ROOT = '/.pod';

export interface Mount {
  /** Relative to the Pod's folder. */
  readonly source: string;
  readonly mountPath: string;
  readonly isFile: boolean;
  readonly readOnly: boolean;
}

/**
 * The files that `container-init.sh` reads in the container's folder. `podFolder` is where the Pod's file system is mounted, as
 * the machine sees it.
 */
export function containerFiles(
  container: ContainerRun,
  mounts: readonly Mount[],
  podFolder: string,
): { fstab: string; prepare: string; command: string } {
  const old = path.join(OLD_ROOT, podFolder);
  const own = path.join(old, 'containers', container.name);
  // A mount may lie inside another one.
  const ordered = mounts.toSorted((a, b) => depth(a.mountPath) - depth(b.mountPath));
  const fstab = [
    entry(`${OLD_ROOT}/dev`, '/dev', 'rbind'),
    entry(`${OLD_ROOT}/sys`, '/sys', 'rbind'),
    ...PRIVATE_FOLDERS.map(({ folder, mountPath }) => entry(path.join(own, folder), mountPath, 'bind')),
    ...ordered.map(({ source, mountPath, isFile, readOnly }) =>
      entry(path.join(old, source), mountPath, `bind${readOnly ? ',ro' : ''}${isFile ? '' : ',X-mount.mkdir'}`),
    ),
  ];
  const variables = Array.from(container.env, ([name, value]) => quote(`${name}=${value}`));
  return {
    fstab: `${fstab.join('\n')}\n`,
    prepare: ordered
      .filter(({ isFile }) => isFile)
      .map(({ mountPath }) => `mkdir -p ${quote(path.dirname(mountPath))}\n: >>${quote(mountPath)}\n`)
      .join(''),
    command: [
      `umount -l ${OLD_ROOT}`,
      `rmdir ${OLD_ROOT}`,
      `mkdir -p ${quote(container.workingDir)}`,
      `cd ${quote(container.workingDir)}`,
      `exec env -i ${variables.join(' ')} ${container.argv.map(quote).join(' ')}`,
      '',
    ].join('\n'),
  };
}

function depth(mountPath: string): number {
  return mountPath.split('/').filter(Boolean).length;
}

/** Fstab(5): blanks and backslashes as octal. */
function entry(source: string, target: string, options: string): string {
  const escape = (text: string): string =>
    text.replaceAll(/[\\\s#]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
  return `${escape(source)} ${escape(target)} none ${options} 0 0`;
}
