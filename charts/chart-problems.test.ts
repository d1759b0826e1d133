import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { describe, expect, test } from 'vitest';
import { z } from 'zod';

import { parseHostConfig } from '#shared/host-config.ts';

import { checkChart, type ChartFiles } from './chart-problems.ts';
import { CHART } from './generated.ts';

const VALUES = `# Header.

# What it is.
name: a
group:
  # How many.
  count: 2
`;
const SCHEMA = {
  type: 'object',
  additionalProperties: false,
  required: ['name', 'group'],
  properties: {
    name: { type: 'string' },
    group: {
      type: 'object',
      additionalProperties: false,
      required: ['count'],
      properties: { count: { type: 'integer' } },
    },
  },
};
const GOOD: ChartFiles = {
  values: VALUES,
  schema: JSON.stringify(SCHEMA),
  chart: 'version: 1.2.3\nappVersion: 1.2.3\n',
  packageJson: '{"version": "1.2.3"}',
};

test('nothing is wrong with a chart where all agrees', () => {
  expect(checkChart(GOOD)).toEqual([]);
});

test.each<[string, Partial<ChartFiles>, string]>([
  ['a value that the schema lacks', { values: `${VALUES}# New.\nmore: 1\n` }, 'values.schema.json lacks more'],
  [
    'a key of the schema that has no value',
    { values: VALUES.replace(/ {2}# How many\.\n {2}count: 2/, '  # Other.\n  other: 2') },
    'values.yaml lacks group.count',
  ],
  ['a default of the wrong type', { values: VALUES.replace('count: 2', 'count: two') }, 'values.yaml: group.count: '],
  [
    'an object that takes anything',
    { schema: JSON.stringify({ ...SCHEMA, additionalProperties: true }) },
    'values.schema.json: the top takes properties that it does not know',
  ],
  [
    'a value that null would take away',
    { schema: JSON.stringify({ ...SCHEMA, required: ['name'] }) },
    'values.schema.json: group is not required',
  ],
  [
    'a value of a group that null would take away',
    { schema: JSON.stringify(SCHEMA).replace('["count"]', '[]') },
    'values.schema.json: group.count is not required',
  ],
  ['another version', { chart: 'version: 1.2.3\nappVersion: 1.2.4\n' }, 'Chart.yaml: appVersion is 1.2.4'],
])('%s', (_what, change, problem) => {
  expect(checkChart({ ...GOOD, ...change })).toContainEqual(expect.stringContaining(problem));
});

test('a value without a comment', () => {
  expect(() => checkChart({ ...GOOD, values: `${VALUES}more: 1\n` })).toThrow('values.yaml: more has no comment');
});

const HOST = { name: 'h', address: '10.0.0.1', user: 'root', platform: 'linux/arm64', secret: 'key', concurrency: 1 };

/** Each with values that are right and values that are wrong. */
const PROPERTIES: [string, unknown[], unknown[]][] = [
  ['name', ['a', 'host-1.example', 'A_b'], ['', '-a', 'a-', 'a/b', 'a'.repeat(64)]],
  [
    'address',
    ['10.0.0.1', '::1', 'fd00::1', '::ffff:10.0.0.1', 'host', 'a.example.com', '1.example.com', 'x1'],
    ['', '10.0.0.256', '10.0.0', '1.2.3.4.5', '[::1]', 'a b', '-a', 'a..b', 'user@host', 'host:22'],
  ],
  ['port', [1, 22, 65_535], [0, 65_536, -1]],
  ['user', ['root', 'Builder_1', 'a.b-c'], ['', '1a', 'a b', 'a'.repeat(33)]],
  [
    'platform',
    ['linux/arm64', 'local', 'linux/x86_64', 'linux/s390x'],
    ['', 'linux', 'Linux/arm64', 'a/b/c', 'linux/x86_65'],
  ],
  ['secret', ['key', 'a.b-c'], ['', 'Key', 'a_b', '-a']],
  ['concurrency', [0, 1, 1000], [-1, 1001]],
  [
    'host-key',
    [`ssh-ed25519 ${'A'.repeat(68)}`, `ssh-rsa ${'A'.repeat(100)}= me`],
    ['', 'ssh-dss AAAA', 'AAAA', 'ssh-ed25519 A'],
  ],
];

describe('a host', async () => {
  const schema = JSON.parse(await readFile(path.join(CHART, 'values.schema.json'), 'utf8'));
  const hosts = z.fromJSONSchema({ ...schema, ...schema.properties.hosts });
  const isAccepted = (property: string, value: unknown): { chart: boolean; controller: boolean } => {
    const isKey = property === 'host-key';
    const data = Object.entries({ ...HOST, [property]: value }).map(([key, text]) => [`host.h.${key}`, String(text)]);
    const config = parseHostConfig(Object.fromEntries(data.filter(([key]) => key !== 'host.h.name')));
    return {
      chart: hosts.safeParse([{ ...HOST, [isKey ? 'hostKeys' : property]: isKey ? [value] : value }]).success,
      controller: config.hosts.size === 1,
    };
  };

  test.each(PROPERTIES)(
    'with a good %s is accepted by chart and controller, with a bad one by neither',
    (property, good, bad) => {
      for (const value of good)
        expect([value, isAccepted(property, value)]).toEqual([value, { chart: true, controller: true }]);
      for (const value of bad) expect([value, isAccepted(property, value).chart]).toEqual([value, false]);
      // A name is part of the keys there, and an empty host key is none.
      const badThere = property === 'name' ? [] : bad.filter((value) => value !== '');
      for (const value of badThere) expect([value, isAccepted(property, value).controller]).toEqual([value, false]);
    },
  );
});
