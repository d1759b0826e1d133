import { bundle } from './content.ts';

const [folder] = process.argv.slice(2);
if (folder === undefined) {
  process.stderr.write('usage: node image/bundle.ts FOLDER\n');
  process.exit(2);
}
await bundle(folder);
