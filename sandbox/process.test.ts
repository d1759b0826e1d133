import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Service, spawnTied, startService, waitUntilReady } from './process.ts';
import { startTimeOf } from './run-folder.ts';

let folder: string;
let service: Service | undefined;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'process-test-'));
});

afterEach(async () => {
  await service?.kill();
  service = undefined;
  await rm(folder, { recursive: true });
});

async function shell(script: string): Promise<Service> {
  service = await startService({
    name: 'the shell',
    command: '/bin/sh',
    args: ['-c', script],
    logPath: path.join(folder, 'log'),
  });
  return service;
}

async function logged(): Promise<string> {
  return await readFile(path.join(folder, 'log'), 'utf8');
}

/** What the script printed once it is up: the id of a process that it started. */
async function loggedPid(): Promise<number> {
  return await vi.waitFor(async () => {
    const text = await logged();
    expect(text).toMatch(/^\d+\n/);
    return Number(text);
  });
}

async function expectGone(pid: number): Promise<void> {
  await vi.waitFor(async () => expect(await startTimeOf(pid)).toBeUndefined());
}

describe('a service', () => {
  test('logs to its file and tells how it ended', async () => {
    const { exited } = await shell('echo out; echo err >&2; exit 3');
    expect(await exited).toEqual({ code: 3, signal: null });
    expect((await logged()).split('\n').toSorted()).toEqual(['', 'err', 'out']);
  });

  test('is asked to stop before it is killed', async () => {
    const it = await shell('trap "echo asked; exit 0" TERM; echo $$; while :; do sleep 0.01; done');
    await loggedPid();
    await it.stop();
    expect(it.exit).toEqual({ code: 0, signal: null });
    expect(await logged()).toContain('asked');
  });

  test('that does not stop is killed, and so is what it started', async () => {
    const it = await shell('trap "" TERM; sleep 1000 & echo $!; while :; do sleep 1000; done');
    const grandchild = await loggedPid();
    await it.stop(10);
    expect(it.exit).toEqual({ code: null, signal: 'SIGKILL' });
    await expectGone(grandchild);
  });

  test('can be stopped twice', async () => {
    const it = await shell('sleep 1000');
    await Promise.all([it.stop(), it.stop()]);
    await it.stop();
    expect(it.exit).toEqual({ code: null, signal: 'SIGTERM' });
  });
});

describe('waiting until a service is ready', () => {
  test('asks until the answer is yes', async () => {
    const it = await shell('sleep 1000');
    const probe = vi.fn<() => Promise<boolean>>();
    probe.mockRejectedValueOnce(new Error('refused')).mockResolvedValueOnce(false).mockResolvedValueOnce(true);
    await waitUntilReady(it, { probe, timeoutMs: 10_000, pollMs: 1 });
    expect(probe).toHaveBeenCalledTimes(3);
  });

  test('ends with the service, quoting its log', async () => {
    const it = await shell('echo port 1 is taken; exit 7');
    await expect(waitUntilReady(it, { probe: async () => false, timeoutMs: 10_000, pollMs: 1 })).rejects.toMatchObject({
      code: 'not-ready',
      message: 'the shell ended with exit code 7; its log ends: port 1 is taken',
    });
  });

  test('names a program that is not there', async () => {
    service = await startService({
      name: 'nothing',
      command: '/nowhere/nothing',
      args: [],
      logPath: path.join(folder, 'log'),
    });
    await expect(waitUntilReady(service, { probe: async () => false, timeoutMs: 10_000 })).rejects.toThrow(
      /^nothing ended with exit code 127; .*\/nowhere\/nothing/,
    );
  });

  test('gives up when the time is over', async () => {
    const it = await shell('sleep 1000');
    await expect(waitUntilReady(it, { probe: async () => false, timeoutMs: 5, pollMs: 1 })).rejects.toThrow(
      'the shell was not ready after 0.005 s',
    );
  });
});

test('a kill -9 of the process that started a service takes the service down', async () => {
  const program = `
    import { startService } from ${JSON.stringify(fileURLToPath(new URL('./process.ts', import.meta.url)))};
    const it = await startService({ name: 'x', command: 'sleep', args: ['1000'], logPath: ${JSON.stringify(path.join(folder, 'log'))} });
    console.log(it.pid);
    setInterval(() => {}, 1000);`;
  const parent = spawnTied(process.execPath, ['--input-type=module-typescript', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [chunk]: unknown[] = parent.stdout === null ? [] : await once(parent.stdout, 'data');
  const pid = Number(String(chunk));
  expect(await startTimeOf(pid)).toBeDefined();
  parent.kill('SIGKILL');
  await expectGone(pid);
});
