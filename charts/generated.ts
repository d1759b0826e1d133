import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { PROTECTION_FILE, protectionFile } from './protection.ts';
import { valuesTable, withTable } from './values-table.ts';

const ROOT = path.join(import.meta.dirname, '..');

export const CHART = path.join(import.meta.dirname, 'multi-platform-controller');

/** The files of the chart that are made from others, with what they should hold. */
export async function generatedFiles(): Promise<{ file: string; wanted: string }[]> {
  const readme = path.join(CHART, 'README.md');
  const values = await readFile(path.join(CHART, 'values.yaml'), 'utf8');
  return [
    { file: path.join(ROOT, PROTECTION_FILE), wanted: protectionFile() },
    { file: readme, wanted: withTable(await readFile(readme, 'utf8'), valuesTable(values)) },
  ];
}
