import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { withLock } from './lock.ts';
import { spawnTied } from './process.ts';

let folder: string;
const options = { env: process.env, onWait: () => {} };

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lock-test-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

test('one waits until the other has failed', async () => {
  const events: string[] = [];
  let second: Promise<unknown> | undefined;
  const first = withLock(folder, options, async () => {
    second = withLock(folder, options, async () => events.push('second'));
    // Time enough for the second to take a lock that is none.
    await sleep(100);
    events.push('first');
    throw new Error('first fails');
  });
  await expect(first).rejects.toThrow('first fails');
  await second;
  expect(events).toEqual(['first', 'second']);
});

test('a lock whose owner was killed is free', async () => {
  const program = `
    import { withLock } from ${JSON.stringify(fileURLToPath(new URL('./lock.ts', import.meta.url)))};
    await withLock(${JSON.stringify(folder)}, { env: process.env, onWait() {} }, async () => {
      console.log('locked');
      await new Promise((resolve) => setTimeout(resolve, 1_000_000));
    });`;
  const owner = spawnTied(process.execPath, ['--input-type=module-typescript', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (owner.stdout !== null) await once(owner.stdout, 'data');
  owner.kill('SIGKILL');
  expect(await withLock(folder, options, async () => 'mine')).toBe('mine');
});
