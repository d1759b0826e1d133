import { once } from 'node:events';
import { spawnTied } from './process.ts';

export interface LockOptions {
  readonly env: NodeJS.ProcessEnv;
  /** Called where somebody else holds the lock. */
  readonly onWait: () => void;
}

/** Nobody waits this long for a lock that is free. */
const FREE_WITHIN_MS = 1_000;

/**
 * Runs `work` while nobody else on this machine runs any under the same file or folder.
 *
 * The lock is flock(2), held by a small child process: the kernel lets it go whenever this process ends, so there is none to
 * take over from the dead. Where there is no `flock` command (macOS) there is no lock: `work` must bear to run twice at once.
 */
export async function withLock<T>(path: string, { env, onWait }: LockOptions, work: () => Promise<T>): Promise<T> {
  const holder = spawnTied('flock', ['--no-fork', path, '/bin/sh', '-c', 'echo locked; exec cat'], {
    env,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const ended = once(holder, 'exit').catch(() => undefined);
  const waiting = setTimeout(onWait, FREE_WITHIN_MS);
  try {
    await Promise.race([ended, holder.stdout === null ? ended : once(holder.stdout, 'data')]);
    clearTimeout(waiting);
    return await work();
  } finally {
    clearTimeout(waiting);
    holder.kill('SIGKILL');
    await ended;
  }
}
