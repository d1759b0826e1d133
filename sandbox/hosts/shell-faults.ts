import { expectSuccess } from './command.ts';
import type { Exec, Faults } from './host.ts';

/** Sudoers(5): a file with a dot in its name is not read. */
const SUDOERS = '/etc/sudoers.d/sandbox-admin';
const USERADD = '/usr/sbin/useradd';

const NEW_KEY = `set -e
rm -f /etc/ssh/ssh_host_ed25519_key*
ssh-keygen -q -t ed25519 -N '' -C "$(hostname)" -f /etc/ssh/ssh_host_ed25519_key
before=$(cat /run/sshd.pid)
kill "$before"
while now=$(cat /run/sshd.pid 2>/dev/null); [ "\${now:-$before}" = "$before" ]; do sleep 0.01; done
cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub`;

/** Runs a script as root on the host; returns its standard output. @throws AppError `command-failed` */
export function shellOn(exec: Exec): (script: string) => Promise<string> {
  return async (script) => {
    const argv = ['sh', '-c', script];
    return expectSuccess(argv, await exec(argv));
  };
}

/** The faults that are only a matter of files, so that every kind of host can have them. */
export function shellFaults(exec: Exec): Pick<Faults, 'breakSudo' | 'removeUseradd' | 'changeHostKey'> {
  const shell = shellOn(exec);
  const hide = async (file: string, on: boolean): Promise<void> => {
    const [from, to] = on ? [file, `${file}.off`] : [`${file}.off`, file];
    await shell(`[ ! -e ${from} ] || mv ${from} ${to}`);
  };
  return {
    breakSudo: async (on) => await hide(SUDOERS, on),
    removeUseradd: async (on) => await hide(USERADD, on),
    changeHostKey: async () => (await shell(NEW_KEY)).trim(),
  };
}
