import { cp, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { rolldown } from 'rolldown';

import { AppError } from '#shared/errors.ts';

const ROOT = path.join(import.meta.dirname, '..');

/** Programs of the image; each becomes `NAME.js`. */
const PROGRAMS = { controller: 'controller/main.ts', webhook: 'webhook/main.ts', uninstall: 'controller/uninstall.ts' };

/** Read by the program that lies beside them (controller/host/scripts.ts). */
const SCRIPTS = 'controller/host/scripts';

/**
 * ssh2 goes without its two optional native parts: Node.js has all ciphers that it needs. Everything else is in the bundle.
 */
const LEFT_OUT = [/^cpu-features$/, /\.node$/];

/** Packages of the old module system look for themselves by these names. */
const BANNER = 'const __filename = import.meta.filename, __dirname = import.meta.dirname;';

/**
 * Fills `folder` with all that the image holds besides Node.js: one file for each program, one that they share, the scripts for hosts,
 * the licences of what is in the bundle.
 *
 * @throws AppError `image.unresolved` where something is imported that is not in the bundle
 */
export async function bundle(folder: string): Promise<string[]> {
  const unresolved: string[] = [];
  await using build = await rolldown({
    cwd: ROOT,
    input: PROGRAMS,
    platform: 'node',
    external: LEFT_OUT,
    onLog: (_level, { code, message }) => {
      if (code === 'UNRESOLVED_IMPORT') unresolved.push(message);
    },
  });
  const { output } = await build.write({
    dir: folder,
    format: 'esm',
    cleanDir: true,
    chunkFileNames: 'shared-[name].js',
    banner: BANNER,
  });
  if (unresolved.length > 0) throw new AppError('image.unresolved', unresolved.join('; '));
  await cp(path.join(ROOT, SCRIPTS), path.join(folder, 'scripts'), { recursive: true });
  const modules = output.flatMap((file) => (file.type === 'chunk' ? file.moduleIds : []));
  await writeFile(path.join(folder, 'package.json'), await manifest());
  await writeFile(path.join(folder, 'LICENSES.txt'), await licences(modules));
  return modules;
}

/** `type` tells Node.js what the files are; `version` tells people. */
async function manifest(): Promise<string> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- our own package.json
  const { name, version, license } = JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8')) as Record<
    string,
    string
  >;
  return `${JSON.stringify({ name, version, license, type: 'module' }, null, 2)}\n`;
}

/** Our licence, then that of each package that is in the bundle. */
async function licences(modules: readonly string[]): Promise<string> {
  const packages = new Set(modules.flatMap((id) => packageFolder(id) ?? []));
  const texts = [`multi-platform-controller\n\n${await licenceOf(ROOT)}`];
  for (const folder of [...packages].toSorted()) {
    texts.push(`${path.relative(path.join(ROOT, 'node_modules'), folder)}\n\n${await licenceOf(folder)}`);
  }
  return texts.join(`\n${'='.repeat(80)}\n\n`);
}

/** `…/node_modules/a` or `…/node_modules/@scope/b`, of the innermost package; undefined for what is ours. */
function packageFolder(moduleId: string): string | undefined {
  return /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(moduleId.replace(/^\0+/, ''))?.[0];
}

async function licenceOf(folder: string): Promise<string> {
  const names = await readdir(folder);
  const file = names.find((name) => /^(licen[cs]e|copying)(\.|-|$)/i.test(name));
  if (file !== undefined) return await readFile(path.join(folder, file), 'utf8');
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- npm refuses others
  const { license, author } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8')) as Record<
    string,
    unknown
  >;
  return `${JSON.stringify(license)} (the package holds no text of it); author: ${JSON.stringify(author)}\n`;
}
