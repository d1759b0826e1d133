import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parse } from 'yaml';
import { AppError, messageOf } from '#shared/errors.ts';
import { type Workplace, fillCache } from './cache.ts';
import { readChecksums, sha256 } from './checksums.ts';
import { type Fetch, download } from './download.ts';
import { type Pinned, fetchGoModule, pinnedVersion } from './go.ts';

const TEKTON: Pinned = { tools: 'tekton', module: 'github.com/tektoncd/pipeline' };
const FOLDER = 'config/300-crds';
const RESULT = 'crds.json';

/**
 * Tekton's CustomResourceDefinitions, as a JSON list in the file whose path this gives. They are the real ones, but for the
 * conversion webhook: nobody answers it here, and the API server would wait for it.
 *
 * @throws AppError `no-tekton-crds`: one message that says what to do
 */
export async function ensureTektonCrds(workplace: Workplace & { readonly fetch: Fetch }): Promise<string> {
  const version = await pinnedVersion(TEKTON);
  const sums = await readChecksums(new URL('tekton-crds.sha256', import.meta.url));
  const folder = await fillCache({ name: `tekton-crds-${version}`, files: [RESULT] }, workplace, async (draft) => {
    workplace.progress.step(`fetching Tekton's resource definitions ${version}`);
    const crds: unknown[] = [];
    for (const [name, content] of await fetchFiles(version, sums, draft, workplace)) {
      const actual = sha256(Buffer.from(content));
      if (actual !== sums.get(name)) throw new AppError('wrong-checksum', `${name} of Tekton ${version} has changed`);
      crds.push(withoutConversion(parse(content)));
    }
    await writeFile(path.join(draft, RESULT), JSON.stringify(crds));
  });
  return path.join(folder, RESULT);
}

async function fetchFiles(
  version: string,
  sums: ReadonlyMap<string, string>,
  draft: string,
  workplace: Workplace & { readonly fetch: Fetch },
): Promise<(readonly [name: string, content: string])[]> {
  const read = async (folder: string): Promise<(readonly [string, string])[]> =>
    await Promise.all([...sums.keys()].map(async (name) => [name, await readFile(path.join(folder, name), 'utf8')]));
  try {
    return await read(path.join(await fetchGoModule(TEKTON, workplace), FOLDER));
  } catch (goError) {
    const get = async ([name, digest]: [string, string]): Promise<void> =>
      await download({
        url: `https://raw.githubusercontent.com/tektoncd/pipeline/${version}/${FOLDER}/${name}`,
        target: path.join(draft, name),
        checksum: { algorithm: 'sha256', digest },
        fetch: workplace.fetch,
      });
    try {
      await Promise.all([...sums].map(get));
      return await read(draft);
    } catch (error) {
      throw new AppError(
        'no-tekton-crds',
        `cannot get Tekton's resource definitions ${version} (${messageOf(goError)}; ${messageOf(error)}): ` +
          'install Go 1.26 or newer (https://go.dev/dl), or let this machine reach raw.githubusercontent.com',
        { cause: error },
      );
    }
  }
}

function withoutConversion(crd: unknown): unknown {
  if (typeof crd !== 'object' || crd === null || !('spec' in crd) || typeof crd.spec !== 'object') return crd;
  return { ...crd, spec: { ...crd.spec, conversion: undefined } };
}
