import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { expect, test } from 'vitest';
import { parse } from 'yaml';

import { CHART_FILE, chartFile } from './chart-file.ts';

test("the chart's copy of the registration and the policy is up to date (else run: node webhook/generate.ts)", async () => {
  expect(await readFile(path.join(import.meta.dirname, '..', CHART_FILE), 'utf8')).toBe(chartFile());
});

test('the values that the chart sets are not in it', () => {
  const { webhook, policy } = parse(chartFile());
  for (const settable of ['clientConfig', 'failurePolicy', 'namespaceSelector']) {
    expect(webhook).not.toHaveProperty(settable);
    expect(policy).not.toHaveProperty(settable);
  }
  expect(policy.matchConstraints).not.toHaveProperty('namespaceSelector');
  expect(webhook).toMatchObject({ timeoutSeconds: 3, sideEffects: 'None' });
  expect(policy.variables.length).toBeGreaterThan(0);
});
