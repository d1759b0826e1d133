import { lstat, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** `mpc-sandbox-<pid>-<start time>-<kind>-<six random characters>`: the name says whose it is. */
const NAME = /^mpc-sandbox-(?<pid>\d+)-(?<start>\d+)-(?<kind>.+)-.{6}$/;

export interface Selection {
  /** All kinds where it is left out. */
  readonly kind?: string;
  /** The system's folder for temporary files where it is left out. */
  readonly parent?: string;
}

/** Proc(5): fields 3 and 22, counted behind the command's name, which may hold spaces and brackets. */
const STATE = 0;
const START_TIME = 22 - 3;

/** Makes a folder that only this user can read and that {@link removeStaleRunFolders} knows to be this process's. */
export async function createRunFolder(kind: string, parent = tmpdir()): Promise<string> {
  const start = (await startTimeOf(process.pid)) ?? '0';
  return await mkdtemp(path.join(parent, `mpc-sandbox-${process.pid}-${start}-${kind}-`));
}

/**
 * Removes what runs left that were killed before they could clean up, and returns the paths of the folders removed.
 *
 * Never touches a folder of another user (anybody may write to /tmp) nor one with something mounted in it: whoever mounts
 * unmounts first, see {@link staleRunFolders}.
 */
export async function removeStaleRunFolders(selection: Selection = {}): Promise<string[]> {
  const mounts = await mountPoints();
  const removable = (await staleRunFolders(selection)).filter((folder) => !mounts.some((at) => isInside(at, folder)));
  await Promise.all(removable.map(async (folder) => await rm(folder, { recursive: true, force: true })));
  return removable;
}

/** Paths of this user's run folders whose process is gone. */
export async function staleRunFolders({ kind, parent = tmpdir() }: Selection = {}): Promise<string[]> {
  const names = await readdir(parent);
  const paths = await Promise.all(
    names.map(async (name) => {
      const owner = NAME.exec(name)?.groups;
      const folder = path.join(parent, name);
      if (owner === undefined || (kind ?? owner['kind']) !== owner['kind']) return [];
      if (!(await isMyFolder(folder))) return [];
      return (await isRunning(Number(owner['pid']), owner['start'] ?? '')) ? [] : [folder];
    }),
  );
  return paths.flat();
}

/** True for the process itself, false for another one that was given the same number later. */
export async function isRunning(pid: number, startTime: string): Promise<boolean> {
  if (process.platform === 'linux') return (await startTimeOf(pid)) === startTime;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

/**
 * In clock ticks since the machine started; undefined where there is no such process, or no /proc. A process that has ended
 * and that nobody has waited for yet is none.
 */
export async function startTimeOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[STATE] === 'Z' ? undefined : fields[START_TIME];
}

async function isMyFolder(folder: string): Promise<boolean> {
  const found = await lstat(folder).catch(() => undefined);
  return found?.isDirectory() === true && found.uid === process.getuid?.();
}

/** Proc(5), mountinfo: the fifth field, blanks written as octal. */
async function mountPoints(): Promise<string[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  return table.split('\n').flatMap((line) => {
    const at = line.split(' ')[4];
    return at === undefined
      ? []
      : [at.replaceAll(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)))];
  });
}

function isInside(at: string, folder: string): boolean {
  return at === folder || at.startsWith(`${folder}/`);
}
