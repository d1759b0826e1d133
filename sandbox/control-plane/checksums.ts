import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';

/** Reads what `sha256sum` and `sha512sum` print: a sum, two blanks and a name on each line. By name. */
export async function readChecksums(file: URL): Promise<ReadonlyMap<string, string>> {
  const lines = (await readFile(file, 'utf8')).trim().split('\n');
  return new Map(
    lines.map((line) => {
      const [digest = '', name = ''] = line.split('  ');
      return [name, digest];
    }),
  );
}

export function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
