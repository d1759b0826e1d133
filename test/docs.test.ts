import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';

import { Registry } from 'prom-client';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

import { createMetrics, registerGauges } from '#controller/metrics.ts';
import { CERTIFICATE_TIMING } from '#webhook/certificate-secret.ts';
import { createWebhookMetrics } from '#webhook/metrics.ts';

const DOCS = path.join(import.meta.dirname, '..', 'docs');
const PAGES = readdirSync(DOCS).filter((name) => name.endsWith('.md'));
const textOf = (page: string): string => readFileSync(path.join(DOCS, page), 'utf8');
const DAY_S = 86_400;

interface Alert {
  alert: string;
  expr: string;
}

/** Both processes' metrics. */
async function metrics(): Promise<Map<string, readonly string[]>> {
  const registry = new Registry();
  createMetrics(registry);
  registerGauges(registry, {
    platforms: () => [{ platform: 'p', capacity: 1, running: 1, waiting: 1 }],
    hosts: () => [{ host: 'h', platform: 'p', capacity: 1, used: 1, available: true }],
    ledgerSize: () => 0,
    queueDepth: () => 0,
    configErrors: () => 0,
  });
  createWebhookMetrics(registry);
  const all = await registry.getMetricsAsJSON();
  return new Map(all.map(({ name, values }) => [name, Object.keys(values[0]?.labels ?? {})]));
}

describe('the alerts in docs/operations.md', () => {
  const [, block = ''] = /^```yaml\n(- alert:.*?)^```$/ms.exec(textOf('operations.md')) ?? [];
  const alerts = parse(block) as Alert[];
  const exprOf = (name: string): string => alerts.find(({ alert }) => alert === name)?.expr ?? '';

  test('ask for metrics that there are', async () => {
    const known = await metrics();
    expect(alerts.length).toBeGreaterThan(5);
    for (const { alert, expr } of alerts) {
      const named = expr.match(/\bmulti_platform_controller_\w+/g) ?? [];
      expect([alert, named.length > 0, named.filter((name) => !known.has(name))]).toEqual([alert, true, []]);
    }
  });

  test('compare metrics that have the same labels, without which nothing would match', async () => {
    const known = await metrics();
    for (const { alert, expr } of alerts.filter((candidate) => candidate.expr.includes(' and '))) {
      const labels = (expr.match(/\bmulti_platform_controller_\w+/g) ?? []).map((name) => known.get(name));
      expect([alert, new Set(labels.map((names) => names?.join())).size]).toEqual([alert, 1]);
    }
  });

  test('see that nobody leads: a process that never led says so', async () => {
    const registry = new Registry();
    createMetrics(registry);
    const name = 'multi_platform_controller_leader';
    expect(await registry.getSingleMetric(name)?.get()).toMatchObject({ values: [{ value: 0, labels: {} }] });
    expect(exprOf('NobodyLeads')).toBe(`sum(${name}) != 1 or absent(${name})`);
  });

  test('warn of a certificate when it should have been renewed and is still good for days, as docs/webhook.md says', () => {
    const days = Number(/< (\d+) \* 86400$/.exec(exprOf('WebhookCertificateEnds'))?.[1]);
    expect(days * DAY_S).toBeLessThan(CERTIFICATE_TIMING.renewBeforeMs / 1000);
    expect(days).toBeGreaterThan(7);
    expect(textOf('webhook.md')).toContain(`less than ${days} days away`);
  });
});

test.each(PAGES)('the shell takes each command in docs/%s', async (page) => {
  for (const [, block = ''] of textOf(page).matchAll(/^ *```sh\n(.*?)^ *```$/gms))
    await expect(promisify(execFile)('sh', ['-n', '-c', block])).resolves.toEqual({ stdout: '', stderr: '' });
});
