import { access, constants, mkdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '#shared/errors.ts';
import { withLock } from '../lock.ts';
import type { Progress } from '../progress.ts';
import { createRunFolder, removeStaleRunFolders } from '../run-folder.ts';

/** What is common to all ways to get something: where to keep it, what to run it with, and whom to tell. */
export interface Workplace {
  /** The variables of the user's environment. */
  readonly env: NodeJS.ProcessEnv;
  readonly progress: Progress;
}

/** A folder in the cache that is there as a whole or not at all. */
export interface CacheEntry {
  /** `<tool>-<version>-<os>-<arch>` */
  readonly name: string;
  /** It is whole when each of these is there and not empty. */
  readonly files: readonly string[];
}

/**
 * `$XDG_CACHE_HOME/multi-platform-controller`, or in `~/.cache` (XDG Base Directory Specification: a relative path is none).
 *
 * @throws AppError `no-cache-folder`
 */
export function cacheFolder(env: NodeJS.ProcessEnv): string {
  const { XDG_CACHE_HOME: cache, HOME: home } = env;
  if (cache !== undefined && path.isAbsolute(cache)) return path.join(cache, 'multi-platform-controller');
  if (home !== undefined && path.isAbsolute(home)) return path.join(home, '.cache', 'multi-platform-controller');
  throw new AppError('no-cache-folder', 'there is no folder to keep programs in: set HOME or XDG_CACHE_HOME');
}

/** The entry's folder where it is whole. */
export async function findCached(entry: CacheEntry, { env }: Workplace): Promise<string | undefined> {
  const folder = path.join(cacheFolder(env), entry.name);
  return (await holdsAll(folder, entry.files)) ? folder : undefined;
}

/**
 * Gives the entry's folder, and has `prepare` fill it first where it is not there. `prepare` works in a folder beside it that
 * is renamed when it is complete, so a run that is killed half-way leaves nothing that looks finished; and only one run on
 * this machine prepares at a time.
 */
export async function fillCache(
  entry: CacheEntry,
  workplace: Workplace,
  prepare: (folder: string) => Promise<void>,
): Promise<string> {
  const found = await findCached(entry, workplace);
  if (found !== undefined) return found;
  const root = cacheFolder(workplace.env);
  const folder = path.join(root, entry.name);
  await mkdir(root, { recursive: true });
  const onWait = (): void => workplace.progress.step('waiting for another run that is filling the cache');
  return await withLock(root, { env: workplace.env, onWait }, async () => {
    if (await holdsAll(folder, entry.files)) return folder;
    await removeStaleRunFolders({ parent: root });
    const draft = await createRunFolder(entry.name, root);
    try {
      await prepare(draft);
      if (!(await holdsAll(draft, entry.files))) {
        throw new AppError('incomplete', `${entry.name} was made without all of ${entry.files.join(', ')}`);
      }
      await rm(folder, { recursive: true, force: true });
      await rename(draft, folder);
    } catch (error) {
      // Without a lock somebody else may have been faster.
      if (await holdsAll(folder, entry.files)) return folder;
      throw error;
    } finally {
      await rm(draft, { recursive: true, force: true });
    }
    return folder;
  });
}

/** True where each file is there, readable and not empty. */
export async function holdsAll(folder: string, files: readonly string[]): Promise<boolean> {
  const whole = files.map(async (file) => {
    await access(path.join(folder, file), constants.R_OK);
    return (await stat(path.join(folder, file))).size > 0;
  });
  return await Promise.all(whole).then(
    (each) => each.every(Boolean),
    () => false,
  );
}
