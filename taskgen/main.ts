import { readFile, writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { runTaskgen } from './command.ts';
import { readScriptParts } from './script-parts.ts';

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
  readScriptParts(),
);
