import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { runCommand } from '#sandbox/hosts/command.ts';
import { ensureCommands } from '#sandbox/packages.ts';
import type { Task } from '#sandbox/task-runner/tekton-types.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

beforeAll(async () => {
  await ensureCommands(['shellcheck'], console.log);
});

/** What ShellCheck has to say. */
async function findings(script: string, ...options: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runCommand('shellcheck', [...options, '-'], { input: script });
  return code === 0 ? '' : stdout + stderr;
}

test('the parts of the remote script', async () => {
  const folder = path.join(ROOT, 'taskgen', 'remote');
  const names = (await readdir(folder)).toSorted();
  expect(names).toEqual(['begin.sh', 'connection.sh', 'container.sh', 'files.sh', 'host.sh', 'image.sh', 'run.sh']);
  for (const name of names) {
    const script = await readFile(path.join(folder, name), 'utf8');
    expect(`${name}: ${await findings(script, script.startsWith('#!') ? '--shell=sh' : '--shell=bash')}`).toBe(
      `${name}: `,
    );
  }
});

test.each(['buildah', 'buildah-remote'])('every step of the Task %s', async (name) => {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it is one
  const { spec } = parse(await readFile(path.join(ROOT, 'tasks', `${name}.yaml`), 'utf8')) as Task;
  expect(spec.steps).toHaveLength(3);
  for (const step of spec.steps ?? []) {
    expect(`${step.name}: ${await findings(step.script ?? '')}`).toBe(`${step.name}: `);
  }
});
