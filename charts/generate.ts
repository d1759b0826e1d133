import { writeFile } from 'node:fs/promises';

import { generatedFiles } from './generated.ts';

for (const { file, wanted } of await generatedFiles()) {
  await writeFile(file, wanted);
  console.log(`wrote ${file}`);
}
