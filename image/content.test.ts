import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { builtinModules } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { bundle } from './content.ts';

const ROOT = path.join(import.meta.dirname, '..');

let folder: string;
let modules: string[];

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'image-'));
  modules = await bundle(folder);
}, 60_000);

afterAll(async () => {
  await rm(folder, { recursive: true });
});

test('the image holds the programs, what they share, the scripts for hosts and the licences', async () => {
  const names = await readdir(folder);
  expect(names.filter((name) => !name.startsWith('shared-')).toSorted()).toEqual([
    'LICENSES.txt',
    'controller.js',
    'package.json',
    'scripts',
    'uninstall.js',
    'webhook.js',
  ]);
  expect(await readdir(path.join(folder, 'scripts'))).toContain('create.sh');
});

test.each(['controller', 'webhook', 'uninstall'])('%s starts with nothing else around', (name) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [path.join(folder, `${name}.js`), '--help'], {
    cwd: '/',
    env: {},
    encoding: 'utf8',
  });
  expect([status, stderr]).toEqual([0, '']);
  expect(stdout).toContain(`Usage: ${name}`);
});

test('nothing is imported that is not there', async () => {
  const known = new Set([...builtinModules, ...builtinModules.map((name) => `node:${name}`)]);
  for (const name of await readdir(folder)) {
    if (!name.endsWith('.js')) continue;
    const text = await readFile(path.join(folder, name), 'utf8');
    const imported = text.matchAll(/^(?:import|export)\b[^'"]*?from ["']([^"']+)["']|^import ["']([^"']+)["']/gm);
    const others = [...imported].map(([, from, bare]) => from ?? bare ?? '').filter((module) => !known.has(module));
    for (const module of others) expect(module).toMatch(/^\.\/(shared-|controller|webhook|uninstall)/);
  }
});

test('the Dockerfile copies every room that goes in, and the image needs no other', async () => {
  const dockerfile = await readFile(path.join(ROOT, 'Dockerfile'), 'utf8');
  const copied = [...dockerfile.matchAll(/^COPY (\w+) \1$/gm)].map(([, room]) => room);
  const rooms = modules
    .filter((id) => path.isAbsolute(id) && !id.includes('/node_modules/'))
    .map((id) => path.relative(ROOT, id).split(path.sep)[0]);
  expect(new Set([...rooms, 'image'])).toEqual(new Set(copied));
});

test('each package that went in has its licence there', async () => {
  const licences = await readFile(path.join(folder, 'LICENSES.txt'), 'utf8');
  for (const name of ['@kubernetes/client-node', 'ssh2', 'fastify', 'node-forge', 'pino', 'zod'])
    expect(licences).toContain(`\n${name}\n`);
});
