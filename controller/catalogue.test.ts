import { readFileSync } from 'node:fs';

import { Registry } from 'prom-client';
import { expect, test } from 'vitest';

import { METRICS_PREFIX } from '#shared/names.ts';

import { EVENT } from './events.ts';
import { createMetrics, registerGauges } from './metrics.ts';

const DOCS = readFileSync(new URL('../docs/operations.md', import.meta.url), 'utf8');

test('the docs explain each reason of an Event, and no other', () => {
  const reasons = Object.values(EVENT).map(({ reason }) => reason);
  for (const reason of reasons) expect(DOCS).toContain(`\`${reason}\``);
  const explained = [...DOCS.matchAll(/^\| `([A-Z][A-Za-z]+)` \|/gm)].map(([, reason]) => reason);
  expect(reasons).toEqual(expect.arrayContaining(explained));
});

test('the docs explain each metric, and no other', async () => {
  const names = (await metricNames()).map((name) => name.slice(METRICS_PREFIX.length));
  const explained = [...DOCS.matchAll(/^\| ((?:`[a-z_]+`(?:, )?)+) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([a-z_]+)`/g)].map(([, name]) => name),
  );
  expect(new Set(explained)).toEqual(new Set(names));
});

test('the metrics that dashboards for the Go implementation use have its names', async () => {
  expect(await metricNames()).toEqual(
    expect.arrayContaining([
      'multi_platform_controller_host_allocation_time',
      'multi_platform_controller_wait_time',
      'multi_platform_controller_task_run_time',
      'multi_platform_controller_provisioning_failures',
      'multi_platform_controller_provisioning_successes',
      'multi_platform_controller_cleanup_failures',
      'multi_platform_controller_host_allocation_failures',
      'multi_platform_controller_platform_pool_size',
      'multi_platform_controller_running_tasks',
      'multi_platform_controller_waiting_tasks',
    ]),
  );
});

async function metricNames(): Promise<string[]> {
  const registry = new Registry();
  createMetrics(registry);
  registerGauges(registry, {
    platforms: () => [],
    hosts: () => [],
    ledgerSize: () => 0,
    queueDepth: () => 0,
    configErrors: () => 0,
  });
  return (await registry.getMetricsAsJSON()).map(({ name }) => name);
}
