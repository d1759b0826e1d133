import { constants, existsSync } from 'node:fs';
import { access, readdir } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '#shared/errors.ts';
import { mustRun, runCommand } from './hosts/command.ts';

/** Gets one line for a person each time something takes a while. */
export type Progress = (line: string) => void;

/** Which Debian packages it takes. */
const PACKAGES_OF = {
  buildah: 'buildah',
  busybox: 'busybox-static',
  curl: 'curl',
  fish: 'fish',
  'fuse-overlayfs': 'fuse-overlayfs',
  gawk: 'gawk',
  gcc: 'gcc libc6-dev',
  ip: 'iproute2',
  jq: 'jq',
  make: 'make',
  mawk: 'mawk',
  newuidmap: 'uidmap',
  podman: 'podman catatonit netavark uidmap',
  rsync: 'rsync',
  shellcheck: 'shellcheck',
  ssh: 'openssh-client',
  sshd: 'openssh-server',
  sudo: 'sudo',
} as const;

export type SystemCommand = keyof typeof PACKAGES_OF;

const APT = '/usr/bin/apt-get';
const FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
/** Seconds to wait for somebody else who installs, two test workers say. */
const LOCK_TIMEOUT_S = 300;

/** What {@link ensureCommands} must know of a machine and do to it. */
export interface Machine {
  has(command: SystemCommand): Promise<boolean>;
  /** True for root on Debian and its kin. */
  canInstall(): Promise<boolean>;
  install(packages: readonly string[]): Promise<void>;
}

/**
 * Sees to it that this machine has these commands: as root on Debian and its kin it installs what is missing.
 *
 * @throws AppError `packages-missing`: one line that says what to install.
 */
export async function ensureCommands(
  commands: readonly SystemCommand[],
  progress: Progress,
  machine: Machine = thisMachine,
): Promise<void> {
  const present = await Promise.all(commands.map(async (command) => await machine.has(command)));
  const missing = commands.filter((_, i) => present[i] === false);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.flatMap((command) => PACKAGES_OF[command].split(' ')))].toSorted();
  if (!(await machine.canInstall())) {
    const names = `${missing.join(', ')} missing; please install: ${packages.join(' ')}`;
    throw new AppError('packages-missing', `${names} (done for you only as root on Debian and Ubuntu)`);
  }
  progress(`Installing ${packages.join(', ')}`);
  await machine.install(packages);
}

const thisMachine: Machine = {
  has: async (command) => {
    const found = await Promise.all(FOLDERS.map(async (folder) => await isExecutable(path.join(folder, command))));
    return found.includes(true);
  },
  canInstall: async () => process.getuid?.() === 0 && (await isExecutable(APT)),
  install: async (packages) => {
    const lists = await readdir('/var/lib/apt/lists').catch(() => []);
    const env = { PATH: FOLDERS.join(':'), LANG: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive' };
    const wait = ['-o', `DPkg::Lock::Timeout=${LOCK_TIMEOUT_S}`];
    const args = [...wait, '--yes', '--no-install-recommends', 'install', ...packages];
    const hasLists = lists.some((name) => name.includes('_Packages'));
    if (!hasLists || (await runCommand(APT, args, { env })).code !== 0) {
      await mustRun(APT, [...wait, 'update'], { env });
      await mustRun(APT, args, { env });
    }
    if (packages.includes('openssh-server') && existsSync('/run/systemd/system')) {
      // Debian starts it and opens port 22; the sandbox needs only the program.
      await mustRun('systemctl', ['disable', '--now', 'ssh.service', 'ssh.socket'], { env });
    }
  },
};

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
