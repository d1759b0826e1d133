import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { CHART_FILE, chartFile } from './chart-file.ts';

const file = path.join(import.meta.dirname, '..', CHART_FILE);
await mkdir(path.dirname(file), { recursive: true });
await writeFile(file, chartFile());
console.log(`wrote ${CHART_FILE}`);
