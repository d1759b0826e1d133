import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { checkChart } from './chart-problems.ts';
import { CHART, generatedFiles } from './generated.ts';

const ROOT = path.join(import.meta.dirname, '..');
const read = (folder: string, name: string): Promise<string> => readFile(path.join(folder, name), 'utf8');

const problems = checkChart({
  values: await read(CHART, 'values.yaml'),
  schema: await read(CHART, 'values.schema.json'),
  chart: await read(CHART, 'Chart.yaml'),
  packageJson: await read(ROOT, 'package.json'),
});
for (const { file, wanted } of await generatedFiles()) {
  if ((await readFile(file, 'utf8').catch(() => '')) !== wanted) {
    problems.push(`${path.relative(ROOT, file)} is not up to date: run node charts/generate.ts`);
  }
}
for (const problem of problems) process.stderr.write(`${problem}\n`);
process.exitCode = problems.length === 0 ? 0 : 1;
