import { expect, test, vi } from 'vitest';
import { type Machine, type SystemCommand, ensureCommands } from './packages.ts';

function machineWith(present: readonly SystemCommand[], canInstall: boolean) {
  return {
    has: async (command) => present.includes(command),
    canInstall: async () => canInstall,
    install: vi.fn<Machine['install']>(),
  } satisfies Machine;
}

test('nothing is said or done where everything is there', async () => {
  const machine = machineWith(['ip', 'sshd'], true);
  const progress = vi.fn<(line: string) => void>();
  await ensureCommands(['ip', 'sshd'], progress, machine);
  expect(machine.install).not.toHaveBeenCalled();
  expect(progress).not.toHaveBeenCalled();
});

test('what is missing is installed, each package once, with one line for the person who waits', async () => {
  const machine = machineWith(['sshd'], true);
  const progress = vi.fn<(line: string) => void>();
  await ensureCommands(['podman', 'newuidmap', 'sshd'], progress, machine);
  expect(machine.install.mock.calls).toEqual([[['catatonit', 'netavark', 'podman', 'uidmap']]]);
  expect(progress.mock.calls).toEqual([['Installing catatonit, netavark, podman, uidmap']]);
});

test('somebody who cannot install is told what to install', async () => {
  const machine = machineWith([], false);
  await expect(ensureCommands(['sshd', 'gcc'], () => undefined, machine)).rejects.toMatchObject({
    code: 'packages-missing',
    message:
      'sshd, gcc missing; please install: gcc libc6-dev openssh-server (done for you only as root on Debian and Ubuntu)',
  });
  expect(machine.install).not.toHaveBeenCalled();
});
