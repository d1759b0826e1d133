import { expect, test } from 'vitest';

import { BEGIN, END, valueEntries, valuesTable, withTable } from './values-table.ts';

const VALUES = `# About the whole file.

group:
  # One | two,
  # and more.
  first: ""
  second:
    # Deep.
    third: [1, 2]
# A map as one value.
map:
  a: b
`;

test('gives each value with its comment and its default', () => {
  expect(valueEntries(VALUES)).toEqual([
    { path: 'group.first', defaultText: '""', description: 'One | two, and more.' },
    { path: 'group.second.third', defaultText: '[1,2]', description: 'Deep.' },
    { path: 'map', defaultText: '{"a":"b"}', description: 'A map as one value.' },
  ]);
});

test('makes a table of them, bars escaped', () => {
  expect(valuesTable(VALUES).split('\n')[2]).toBe('| `group.first` | `""` | One \\| two, and more. |');
});

test('replaces what is between the marks of a README, and nothing else', () => {
  const readme = `# Chart\n\n${BEGIN}\nold\n${END}\n\nAfter.\n`;
  const once = withTable(readme, 'new');
  expect(once).toBe(`# Chart\n\n${BEGIN}\n\nnew\n\n${END}\n\nAfter.\n`);
  expect(withTable(once, 'new')).toBe(once);
  expect(() => withTable('# Chart', 'new')).toThrow('README.md lacks the marks');
});
