import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';

import { parseHostConfig } from '#shared/host-config.ts';

import { CHART } from './generated.ts';
import { valueEntries } from './values-table.ts';

const DOCS = path.join(import.meta.dirname, '..', 'docs');
const PAGES = ['install', 'hosts', 'operations', 'security', 'migrating', 'compatibility', 'webhook'];
const textOf = (page: string): string => readFileSync(path.join(DOCS, `${page}.md`), 'utf8');

const schema = z.fromJSONSchema(JSON.parse(readFileSync(path.join(CHART, 'values.schema.json'), 'utf8')));
const valuesFile = readFileSync(path.join(CHART, 'values.yaml'), 'utf8');
const values = valueEntries(valuesFile).map((entry) => entry.path);
const groups = new Set(values.filter((value) => value.includes('.')).map((value) => value.split('.')[0]));

/** As Helm joins them. */
function withDefaults(given: unknown, defaults: unknown): unknown {
  const isMap = (value: unknown): value is object =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isMap(given) || !isMap(defaults)) return given;
  const ofDefaults = new Map(Object.entries(defaults));
  const joined = Object.entries(given).map(([key, value]) => [key, withDefaults(value, ofDefaults.get(key))]);
  return { ...defaults, ...Object.fromEntries(joined) };
}

describe.each(PAGES)('docs/%s.md', (page) => {
  const text = textOf(page);

  test('names only values that there are', () => {
    const named = [...text.matchAll(/`((?:[a-zA-Z]+\.)+[a-zA-Z]+)(?:: [^`]*|=[^`]*)?`/g)].map(([, name]) => name ?? '');
    const ofTheChart = named.filter((name) => groups.has(name.split('.')[0]));
    expect(ofTheChart.filter((name) => !values.includes(name) && name !== 'waitTimeouts.default')).toEqual([]);
  });

  test('shows values that the chart takes', () => {
    const blocks = [...text.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, block]) => parse(block ?? ''));
    for (const block of blocks.filter((candidate) => 'hosts' in candidate))
      expect(schema.safeParse(withDefaults(block, parse(valuesFile))).error?.issues ?? []).toEqual([]);
  });

  test('links to pages and headings that there are', () => {
    const slug = (heading: string): string =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-');
    for (const [, target = '', anchor] of text.matchAll(/\]\(((?!https?:)[^)#]*)(?:#([^)]*))?\)/g)) {
      const file = target === '' ? path.join(DOCS, `${page}.md`) : path.join(DOCS, target);
      expect([target, existsSync(file)]).toEqual([target, true]);
      if (anchor === undefined) continue;
      const headings = [...readFileSync(file, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => slug(heading));
      expect(headings).toContain(anchor);
    }
  });
});

test('docs/hosts.md lists each key of host-config, and the controller knows each that it lists', () => {
  const rows = [...textOf('hosts').matchAll(/^\| `([^`]+)` \| `[^`]+`/gm)].map(([, key = '']) => key);
  expect(rows.toSorted()).toEqual(
    [
      ...['address', 'port', 'user', 'platform', 'secret', 'concurrency', 'host-key'].map(
        (name) => `host.NAME.${name}`,
      ),
      'local-platforms',
      'wait-timeout',
      'wait-timeout.PLATFORM',
    ].toSorted(),
  );
  const { problems } = parseHostConfig(Object.fromEntries(rows.map((key) => [key, 'x'])));
  expect(problems.filter(({ message }) => /not a key|not a property/.test(message))).toEqual([]);
});

test('each decision that is referred to exists', () => {
  const decisions = readdirSync(path.join(DOCS, 'decisions'));
  const chart = ['_helpers.tpl', 'uninstall.yaml', 'controller/rbac.yaml', 'webhook/rbac.yaml'].map((name) =>
    readFileSync(path.join(CHART, 'templates', name), 'utf8'),
  );
  const named = [...chart.join('\n').matchAll(/docs\/decisions\/(\S+\.md)/g)].map(([, name = '']) => name);
  expect(named.length).toBeGreaterThan(2);
  for (const name of named) expect(decisions).toContain(name);
});
