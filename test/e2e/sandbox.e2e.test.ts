import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { type ExecResult } from '#sandbox/hosts/host.ts';
import { runCommand } from '#sandbox/hosts/command.ts';
import { spawnTied } from '#sandbox/process.ts';
import { until } from './support/builds.ts';
import { toolPath } from './support/tools.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PATIENCE_MS = 120_000;

let child: ChildProcess | undefined;
afterEach(() => {
  if (child?.pid !== undefined && child.exitCode === null && child.signalCode === null)
    process.kill(-child.pid, 'SIGKILL');
});

test('`npm run sandbox` says what to type, all of it works as it is printed, and Ctrl-C leaves nothing', async () => {
  const kubectl = await toolPath('kubectl');
  // Npm and sh stand between: as Ctrl-C in a terminal does, the signal goes to all of them.
  child = spawnTied('npm', ['run', 'sandbox', '--', '--platforms', 'linux/arm64'], {
    cwd: ROOT,
    env: process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await until('it is up', async () => (said.includes('Ctrl-C stops everything.') ? true : null), PATIENCE_MS);
  const [setKubeconfig = '', create = '', get = '', log = '', remove = '', hosts = ''] = commandsIn(said);
  const type = async (command: string): Promise<ExecResult> =>
    await runCommand('/bin/sh', ['-c', `${setKubeconfig}\n${command}`], {
      env: { ...process.env, PATH: `${path.dirname(kubectl)}:${process.env.PATH}` },
    });

  expect((await type(create)).stdout).toContain('created');
  await until(
    'the TaskRun has logged in',
    async () => ((await type(log)).stdout.includes('Hello from arm64-1') ? true : null),
    PATIENCE_MS,
  );
  expect((await type(get)).stdout).toMatch(/pod\/hello-pod[\s\S]*secret\/multi-platform-ssh-hello/);
  expect(await type(remove)).toMatchObject({ code: 0, stderr: '' });
  expect((await type(hosts)).stdout).toContain('host.arm64-1.concurrency: "2"');

  const folder = path.dirname(/KUBECONFIG=(\S+)/.exec(setKubeconfig)?.[1] ?? '');
  expect(existsSync(folder)).toBe(true);
  const ended = once(child, 'close');
  process.kill(-(child.pid ?? 0), 'SIGINT');
  await ended;
  expect(existsSync(folder)).toBe(false);
}, 300_000);

/** The indented lines below "To try a TaskRun by hand". */
function commandsIn(said: string): string[] {
  const lines = said.slice(said.indexOf('To try a TaskRun by hand')).split('\n').slice(1);
  return lines.filter((line) => line.startsWith('  ')).map((line) => line.trim());
}
