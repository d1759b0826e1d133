import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { removeStaleRunFolders, staleRunFolders } from '#sandbox/run-folder.ts';

const run = promisify(execFile);

let parent: string;
let folder: string;

beforeEach(async () => {
  // A blank, because the kernel writes it in another way in its list of mounts.
  parent = await mkdtemp(path.join(tmpdir(), 'run folder-test-'));
  const child = spawn('true');
  await once(child, 'exit');
  folder = path.join(parent, `mpc-sandbox-${child.pid}-1-hosts-abcdef`);
});

afterEach(async () => {
  await rm(parent, { recursive: true });
});

test('a stale folder in which something is mounted stays until it is unmounted', async () => {
  const mountPoint = path.join(folder, 'root');
  await mkdir(mountPoint, { recursive: true });
  await run('mount', ['-t', 'tmpfs', 'tmpfs', mountPoint]);
  try {
    expect(await staleRunFolders({ parent })).toEqual([folder]);
    expect(await removeStaleRunFolders({ parent })).toEqual([]);
    await access(mountPoint);
  } finally {
    await run('umount', [mountPoint]);
  }
  expect(await removeStaleRunFolders({ parent })).toEqual([folder]);
});
