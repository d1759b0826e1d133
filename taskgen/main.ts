import { readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { runTaskgen } from './command.ts';

const part = (name: string): string => readFileSync(new URL(`remote/${name}.sh`, import.meta.url), 'utf8');

process.exitCode = await runTaskgen(
  process.argv.slice(2),
  {
    read: async (path) => await (path === '-' ? text(process.stdin) : readFile(path, 'utf8')),
    write: async (path, content) => {
      if (path === '-') process.stdout.write(content);
      else await writeFile(path, content);
    },
    print: (content) => process.stdout.write(content),
    printError: (content) => process.stderr.write(content),
  },
  { step: part('step'), host: part('host'), container: part('container') },
);
