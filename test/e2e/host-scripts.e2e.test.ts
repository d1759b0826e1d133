import { beforeAll, describe, expect, test } from 'vitest';
import { type ScriptName, type ScriptParameters, scriptText } from '#controller/host/scripts.ts';
import { runCommand } from '#sandbox/hosts/command.ts';
import { ensureCommands } from '#sandbox/packages.ts';

/** Each with a parameter of every kind, so that no variable is unknown. */
const PARAMETERS: ScriptParameters = {
  check: { instance: 'i' },
  create: {
    instance: 'i',
    account: 'u-0',
    taskrun: 't',
    public_key: 'ssh-ed25519 AAAA',
    expires: '1',
    max_processes: '',
    cpu_minutes: '',
  },
  remove: { instance: 'i', account: 'u-0' },
  list: { instance: 'i' },
};

/** Variables that only some scripts need are set for all of them by the parts that they share. */
const UNUSED = 'SC2034';

/** What a script that starts all the same can do here is to say so. */
const UNPRIVILEGED = ['setpriv', ['--reuid=65534', '--clear-groups', '/bin/sh', '-s']] as const;

beforeAll(async () => await ensureCommands(['shellcheck'], console.log), 300_000);

describe.each(Object.keys(PARAMETERS) as ScriptName[])('the script "%s"', (name) => {
  const text = `marker=''\n${scriptText(name, PARAMETERS[name])}`;

  test('has nothing that ShellCheck minds', async () => {
    const checked = await runCommand('shellcheck', ['--shell', 'sh', '--exclude', UNUSED, '-'], { input: text });
    expect(checked).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test.each([
    ['dash', ['-n']],
    ['bash', ['--posix', '-n']],
    ['busybox', ['sh', '-n']],
  ])('is read by %s', async (shell, args) => {
    await ensureCommands(shell === 'busybox' ? ['busybox'] : [], console.log);
    expect(await runCommand(shell, args, { input: text })).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test('refuses to do anything for somebody who is not root', async () => {
    const { stdout } = await runCommand(...UNPRIVILEGED, { input: text });
    expect(JSON.parse(stdout)).toEqual({ error: 'not-root', text: 'user id 65534', left: false });
  });

  test('does nothing where it breaks off', async () => {
    const lines = text.split('\n');
    const cuts = [1, 2, 3, 4].map((part) => Math.floor((text.length * part) / 5));
    const inLastLine = text.trimEnd().length - (lines.at(-2)?.length ?? 0) + 3;
    for (const end of [...cuts, inLastLine]) {
      const { stdout } = await runCommand(...UNPRIVILEGED, { input: text.slice(0, end) });
      expect(stdout).toBe('');
    }
  });
});
