import { constants, existsSync } from 'node:fs';
import { access, readdir } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '#shared/errors.ts';
import { mustRun, runCommand } from './hosts/command.ts';

/** Gets one line for a person each time something takes a while. */
export type Progress = (line: string) => void;

/** Which Debian packages it takes. */
const PACKAGE_OF = {
  buildah: 'buildah',
  busybox: 'busybox-static',
  fish: 'fish',
  gcc: 'gcc libc6-dev',
  ip: 'iproute2',
  make: 'make',
  newuidmap: 'uidmap',
  podman: 'podman',
  rsync: 'rsync',
  ssh: 'openssh-client',
  sshd: 'openssh-server',
  sudo: 'sudo',
  tc: 'iproute2',
} as const;

export type SystemCommand = keyof typeof PACKAGE_OF;

const FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
/** Seconds to wait for somebody else who installs, two test workers say. */
const LOCK_TIMEOUT_S = 300;

/**
 * Sees to it that this machine has these commands: as root on Debian and its kin it installs what is missing.
 *
 * @throws AppError `packages-missing`: one line that says what to install.
 */
export async function ensureCommands(commands: readonly SystemCommand[], progress: Progress): Promise<void> {
  const found = await Promise.all(commands.map(isInstalled));
  const missing = commands.filter((_, i) => found[i] === false);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.flatMap((command) => PACKAGE_OF[command].split(' ')))].toSorted();
  if (process.getuid?.() !== 0 || !(await isExecutable('/usr/bin/apt-get'))) {
    const who = 'only root on Debian or Ubuntu can have it installed here';
    throw new AppError(
      'packages-missing',
      `${missing.join(', ')} missing; please install: ${packages.join(' ')} (${who})`,
    );
  }
  progress(`Installing ${packages.join(', ')}…`);
  await install(packages);
}

async function install(packages: readonly string[]): Promise<void> {
  const lists = await readdir('/var/lib/apt/lists').catch(() => []);
  const args = [
    '-o',
    `DPkg::Lock::Timeout=${LOCK_TIMEOUT_S}`,
    '--yes',
    '--no-install-recommends',
    'install',
    ...packages,
  ];
  const env = { PATH: FOLDERS.join(':'), LANG: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive' };
  const isFresh = lists.some((name) => name.includes('_Packages'));
  if (!isFresh || (await runCommand('apt-get', args, { env })).code !== 0) {
    await mustRun('apt-get', ['-o', `DPkg::Lock::Timeout=${LOCK_TIMEOUT_S}`, 'update'], { env });
    await mustRun('apt-get', args, { env });
  }
  if (packages.includes('openssh-server') && existsSync('/run/systemd/system')) {
    // Debian starts it and opens port 22; the sandbox needs only the program.
    await mustRun('systemctl', ['disable', '--now', 'ssh.service', 'ssh.socket'], { env });
  }
}

async function isInstalled(command: SystemCommand): Promise<boolean> {
  const found = await Promise.all(FOLDERS.map(async (folder) => await isExecutable(path.join(folder, command))));
  return found.includes(true);
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
