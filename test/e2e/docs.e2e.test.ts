import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { expect, test } from 'vitest';

import { useHelm } from './support/helm.ts';

const DOCS = path.join(import.meta.dirname, '..', '..', 'docs');

test('Helm knows each flag that the docs give it', async () => {
  const helm = await useHelm({ kubeconfig: '/nonexistent', folder: tmpdir() });
  const used = new Map<string, Set<string>>();
  for (const page of (await readdir(DOCS)).filter((name) => name.endsWith('.md'))) {
    const text = (await readFile(path.join(DOCS, page), 'utf8')).replaceAll('\\\n', ' ');
    for (const [line, command = ''] of text.matchAll(/\bhelm ([a-z]+)\b[^`|\n]*/g)) {
      const flags = line.match(/(?<= )--[a-z-]+/g);
      if (flags !== null) used.set(command, new Set([...(used.get(command) ?? []), ...flags]));
    }
  }
  expect([...used.keys()]).toEqual(expect.arrayContaining(['install', 'rollback', 'template', 'uninstall', 'upgrade']));
  for (const [command, flags] of used) {
    const help = await helm.must([command, '--help']);
    const unknown = [...flags].filter((flag) => !new RegExp(`^ +(-\\w, )?${flag}\\b`, 'm').test(help));
    expect([command, unknown]).toEqual([command, []]);
  }
});
