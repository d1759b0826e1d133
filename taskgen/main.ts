import { readFile, stat, writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { messageOf } from '#shared/errors.ts';
import { runTaskgen } from './command.ts';
import { readScriptParts } from './script-parts.ts';

try {
  process.exitCode = await runTaskgen(
    process.argv.slice(2),
    {
      read: async (path) => await (path === '-' ? text(process.stdin) : readFile(path, 'utf8')),
      write: async (path, content) => {
        if (path === '-') await pipeline([content], process.stdout, { end: false });
        else await writeFile(path, content);
      },
      isSameFile: async (path, other) => {
        const [one, two] = await Promise.all([path, other].map((file) => stat(file).catch(() => null)));
        return one != null && one.dev === two?.dev && one.ino === two.ino;
      },
      print: (content) => process.stdout.write(content),
      printError: (content) => process.stderr.write(content),
    },
    readScriptParts(),
  );
} catch (error) {
  // 1 would say that --check found a difference.
  process.stderr.write(`taskgen: ${messageOf(error)}\n`);
  process.exitCode = 2;
}
