import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

import { Registry } from 'prom-client';
import { expect, test } from 'vitest';

import { createWebhookMetrics } from './metrics.ts';

const docs = await readFile(path.join(import.meta.dirname, '..', 'docs', 'webhook.md'), 'utf8');

test('each flag is in docs/webhook.md, and each flag there exists', async () => {
  const main = path.join(import.meta.dirname, 'main.ts');
  const { stdout: help } = await promisify(execFile)(process.execPath, [main, '--help']);
  const flags = new Set([...help.matchAll(/^ {2}(?:-h, )?(--[a-z-]+)/gm)].map(([, flag = '']) => flag));
  flags.delete('--help');
  const section = docs.slice(docs.indexOf('## Flags'), docs.indexOf('## Metrics'));
  const rows = section.split('\n').filter((line) => line.startsWith('| `--'));
  const documented = rows.flatMap((row) => [...(row.split('|')[1] ?? '').matchAll(/--[a-z-]+/g)].map(([flag]) => flag));
  expect(documented.toSorted()).toEqual([...flags].toSorted());
});

test('each metric is in docs/webhook.md, and each metric there exists', () => {
  const registry = new Registry();
  createWebhookMetrics(registry);
  const registered = registry.getMetricsAsArray().map(({ name }) => name);
  const documented = new Set([...docs.matchAll(/multi_platform_controller_webhook_\w+/g)].map(([name]) => name));
  expect([...documented].toSorted()).toEqual(registered.toSorted());
});
