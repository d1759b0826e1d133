import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createRunFolder, isRunning, removeStaleRunFolders, staleRunFolders, startTimeOf } from './run-folder.ts';

let parent: string;

beforeEach(async () => {
  parent = await mkdtemp(path.join(tmpdir(), 'run-folder-test-'));
});

afterEach(async () => {
  await rm(parent, { recursive: true });
});

async function deadPid(): Promise<number> {
  const child = spawn('true');
  await once(child, 'exit');
  return child.pid ?? 0;
}

async function staleFolder(): Promise<string> {
  const folder = path.join(parent, `mpc-sandbox-${await deadPid()}-1234-hosts-abcdef`);
  await mkdir(path.join(folder, 'deep'), { recursive: true });
  await writeFile(path.join(folder, 'deep', 'file'), 'x');
  return folder;
}

describe('a run folder', () => {
  test('is private and named after its owner', async () => {
    const folder = await createRunFolder('hosts', parent);
    expect(path.basename(folder)).toMatch(new RegExp(`^mpc-sandbox-${process.pid}-[1-9]\\d*-hosts-.{6}$`));
    expect((await stat(folder)).mode & 0o777).toBe(0o700);
  });

  test('stays as long as its owner runs', async () => {
    const folder = await createRunFolder('hosts', parent);
    expect(await removeStaleRunFolders({ parent })).toEqual([]);
    expect(await readdir(parent)).toEqual([path.basename(folder)]);
  });

  test('goes when its owner is gone', async () => {
    const folder = await staleFolder();
    expect(await staleRunFolders({ parent })).toEqual([folder]);
    expect(await removeStaleRunFolders({ parent })).toEqual([folder]);
    expect(await readdir(parent)).toEqual([]);
  });

  test('of another kind stays when one kind is asked for', async () => {
    const folder = await staleFolder();
    expect(await removeStaleRunFolders({ kind: 'control-plane', parent })).toEqual([]);
    expect(await removeStaleRunFolders({ kind: 'hosts', parent })).toEqual([folder]);
  });

  test('goes when another process has its owner’s number now', async () => {
    await mkdir(path.join(parent, `mpc-sandbox-${process.pid}-1-hosts-abcdef`));
    expect(await removeStaleRunFolders({ parent })).toHaveLength(1);
  });

  test.skipIf(process.getuid?.() !== 0)('of another user is left alone', async () => {
    const folder = await staleFolder();
    await chown(folder, 12_345, 12_345);
    expect(await removeStaleRunFolders({ parent })).toEqual([]);
  });

  test('that is only a link is left alone', async () => {
    await symlink('/nowhere', path.join(parent, `mpc-sandbox-${await deadPid()}-1-hosts-abcdef`));
    expect(await removeStaleRunFolders({ parent })).toEqual([]);
  });

  test('other names are left alone', async () => {
    await mkdir(path.join(parent, 'mpc-sandbox-notes'));
    expect(await removeStaleRunFolders({ parent })).toEqual([]);
  });
});

test('a process that ended but was not waited for is not running', async () => {
  const child = spawn('sh', ['-c', 'sleep 0 & echo $!; exec sleep 1000'], { stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    const [chunk]: unknown[] = await once(child.stdout, 'data');
    const zombie = Number(String(chunk));
    while ((await startTimeOf(zombie)) !== undefined);
    await expect(stat(`/proc/${zombie}`)).resolves.toBeDefined();
  } finally {
    child.kill('SIGKILL');
  }
});

test('this process is running', async () => {
  expect(await isRunning(process.pid, (await startTimeOf(process.pid)) ?? '')).toBe(true);
});
