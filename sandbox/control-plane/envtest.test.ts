import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { envtestChecksums, fetchEnvtest } from './envtest.ts';
import { type Home, createHome, put } from './testing.ts';

const machine = { os: 'linux', arch: 'arm64' };

let home: Home;

beforeEach(async () => {
  home = await createHome();
});

afterEach(async () => {
  await home.remove();
});

test('the two programs are taken out of the archive, and nothing else', async () => {
  const source = path.join(home.folder, 'source');
  await put(path.join(source, 'controller-tools/envtest/kube-apiserver'), 'K');
  await put(path.join(source, 'controller-tools/envtest/etcd'), 'E');
  await put(path.join(source, 'controller-tools/envtest/kubectl'), 'C');
  const archive = path.join(home.folder, 'made.tar.gz');
  await promisify(execFile)('tar', ['-czf', archive, '-C', source, 'controller-tools']);
  const content = await readFile(archive);
  const digest = createHash('sha512').update(content).digest('hex');

  const folder = path.join(home.folder, 'target');
  await put(path.join(folder, 'placeholder'), '');
  await fetchEnvtest(folder, {
    ...home,
    machine,
    checksums: new Map([['envtest-v1.37.0-linux-arm64.tar.gz', digest]]),
    fetch: async () => new Response(content),
  });
  expect((await readdir(folder)).toSorted()).toEqual(['etcd', 'kube-apiserver', 'placeholder']);
  expect(await readFile(path.join(folder, 'etcd'), 'utf8')).toBe('E');
});

test('a machine that no archive is published for is not asked for one', async () => {
  const checksums = await envtestChecksums();
  await expect(
    fetchEnvtest(home.folder, { ...home, machine: { os: 'linux', arch: 's390x' }, checksums }),
  ).rejects.toThrow('none is published for linux/s390x');
});

test('sums are known for the machines that people have', async () => {
  const checksums = await envtestChecksums();
  expect([...checksums.keys()]).toEqual(
    ['linux-amd64', 'linux-arm64', 'darwin-amd64', 'darwin-arm64'].map((kind) => `envtest-v1.37.0-${kind}.tar.gz`),
  );
  for (const digest of checksums.values()) expect(digest).toMatch(/^[0-9a-f]{128}$/);
});
