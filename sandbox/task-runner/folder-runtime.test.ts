import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createFolderRuntime } from './folder-runtime.ts';
import type { ContainerRun, PodSandbox, VolumeContent } from './runtime.ts';

let parent: string;
beforeEach(async () => {
  parent = await mkdtemp(path.join(tmpdir(), 'folder-runtime-'));
});
afterEach(async () => await rm(parent, { recursive: true, force: true }));

const volumes: VolumeContent[] = [
  { name: 'ssh', readOnly: true, files: [{ path: 'host', content: Buffer.from('me@there'), mode: 0o600 }] },
  { name: 'work', readOnly: false, files: [] },
];

function container(script: string): ContainerRun {
  return {
    name: 'step-a',
    argv: ['/bin/sh', '-c', script, 'sh', '/ssh/host'],
    env: new Map([
      ['PATH', '/usr/bin:/bin'],
      ['FROM', '/ssh'],
    ]),
    workingDir: '/workspace/inside',
    mounts: [
      { volume: 'ssh', mountPath: '/ssh', subPath: undefined, readOnly: true },
      { volume: 'work', mountPath: '/workspace', subPath: undefined, readOnly: false },
    ],
    logPath: path.join(parent, 'log'),
  };
}

async function start(): Promise<PodSandbox> {
  return await createFolderRuntime(path.join(parent, 'pods')).start(volumes);
}

describe('steps without isolation', () => {
  it('find their mounts in script, arguments, variables and working folder, and leave nothing', async () => {
    const sandbox = await start();
    const script = 'cat "$1" /ssh/host "$FROM/host"; echo result > /workspace/result; cat ../result; exit 3';
    expect(await sandbox.run(container(script))).toBe(3);
    expect(await readFile(path.join(parent, 'log'), 'utf8')).toBe('me@thereme@thereme@thereresult\n');
    expect(await sandbox.readFile('work', 'result')).toBe('result\n');
    expect(await sandbox.readFile('work', 'none')).toBeUndefined();
    await sandbox.destroy();
    expect(await readdir(path.join(parent, 'pods'))).toEqual([]);
  });

  it('end with their Pod', async () => {
    const sandbox = await start();
    const ended = sandbox.run(container('sleep 1000 & wait'));
    while (!(await readdir(parent)).includes('log')) await new Promise((resolve) => setImmediate(resolve));
    await sandbox.destroy();
    expect(await ended).toBe(137);
  });

  it('say 127 where there is no such program', async () => {
    const sandbox = await start();
    expect(await sandbox.run({ ...container(''), argv: ['/no/such/program'] })).toBe(127);
    await sandbox.destroy();
  });
});
