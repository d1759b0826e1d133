import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { spawnTied } from '#sandbox/process.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const running = new Set<ChildProcess>();
afterEach(() => {
  for (const { pid } of running) if (pid !== undefined) process.kill(-pid, 'SIGKILL');
});

test('after a demo that was killed the next one cleans up, runs, and prints one JSON object', async () => {
  const killed = start(['--builds', '3']);
  await killed.says(/ gets /);
  const folders = await foldersOf(killed.child);
  expect(folders.length).toBeGreaterThan(2);
  const before = await descendantsOf(killed.child);
  expect(before.length).toBeGreaterThan(5);
  killed.child.kill('SIGKILL');
  await killed.ended;
  await until('its processes are gone', async () => (await Promise.all(before.map(isAlive))).every((alive) => !alive));

  const demo = start(['--output', 'json', '--builds', '5']);
  const [{ code }, stdout] = await Promise.all([demo.ended, demo.stdout]);
  expect(stdout.split('\n')).toHaveLength(2);
  expect(JSON.parse(stdout)).toEqual({
    taskRuns: 7,
    succeeded: 5,
    failedAsExpected: 1,
    untouched: 1,
    overCommitted: 0,
    accountsLeft: 0,
    secretsLeft: 0,
    finalizersLeft: 0,
    secretLatencyMs: { p50: expect.any(Number), p99: expect.any(Number) },
    seconds: expect.any(Number),
  });
  expect(code).toBe(0);
  expect(await foldersOf(demo.child)).toEqual([]);
  const left = await readdir(tmpdir());
  expect(folders.filter((folder) => left.includes(folder))).toEqual([]);
}, 300_000);

test.each<[string, RegExp]>([
  ['starts', /control plane ready/],
  ['runs', / gets /],
])(
  'a demo that is interrupted while it %s stops within seconds and leaves nothing',
  async (_, line) => {
    const demo = start(['--builds', '3']);
    await demo.says(line);
    const processes = await descendantsOf(demo.child);
    demo.child.kill('SIGINT');
    const { code } = await demo.ended;
    expect(code).toBe(130);
    expect(await foldersOf(demo.child)).toEqual([]);
    expect((await Promise.all(processes.map(isAlive))).filter(Boolean)).toEqual([]);
  },
  240_000,
);

test('an option that makes no sense is refused at once', async () => {
  const demo = start(['--builds', '0']);
  expect((await demo.ended).code).toBe(1);
  expect(demo.heard()).toContain('whole number from 1');
});

interface Demo {
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null }>;
  /** All of standard output, when it has ended. */
  readonly stdout: Promise<string>;
  /** What both streams have said so far. */
  heard(): string;
  says(line: RegExp): Promise<void>;
}

function start(args: readonly string[]): Demo {
  const child = spawnTied(process.execPath, [path.join(ROOT, 'sandbox', 'demo', 'main.ts'), ...args], {
    env: process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { stdout, stderr } = child;
  if (stdout === null || stderr === null) throw new TypeError('spawned without pipes');
  running.add(child);
  let heard = '';
  for (const stream of [stdout, stderr]) stream.on('data', (chunk: Buffer) => (heard += chunk.toString()));
  const ended = once(child, 'close').then(() => {
    running.delete(child);
    return { code: child.exitCode };
  });
  return {
    child,
    ended,
    stdout: text(stdout),
    heard: () => heard,
    says: async (line) =>
      await until(`the demo says ${line}`, () => {
        if (child.exitCode !== null) throw new Error(`the demo has ended: ${heard}`);
        return Promise.resolve(line.test(heard));
      }),
  };
}

async function foldersOf({ pid }: ChildProcess): Promise<string[]> {
  return (await readdir(tmpdir())).filter((name) => name.startsWith(`mpc-sandbox-${pid}-`));
}

async function descendantsOf({ pid = 0 }: { pid?: number | undefined }): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  const direct = children.split(' ').filter(Boolean).map(Number);
  const below = await Promise.all(direct.map((child) => descendantsOf({ pid: child })));
  return [...direct, ...below.flat()];
}

/** A process that has ended and that nobody has waited for is not. */
async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat !== '' && !stat.slice(stat.lastIndexOf(')')).startsWith(') Z');
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 150_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not so in time: ${what}`);
    await sleep(100);
  }
}
