import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '#shared/errors.ts';

const TIMEOUT_MS = 20_000;
const ATTEMPT_MS = 1000;
const PAUSE_MS = 10;

/** Returns when an SSH server greets there. @throws AppError `no-ssh` after 20 s. */
export async function waitForSsh(address: string, port: number): Promise<void> {
  const deadline = performance.now() + TIMEOUT_MS;
  while (!(await greets(address, port))) {
    if (performance.now() > deadline) throw new AppError('no-ssh', `no SSH server answers at ${address} port ${port}`);
    await sleep(PAUSE_MS);
  }
}

/** RFC 4253, 4.2: the server's first line begins with `SSH-`. */
async function greets(host: string, port: number): Promise<boolean> {
  const socket = connect({ host, port });
  try {
    const [first]: unknown[] = await once(socket, 'data', { signal: AbortSignal.timeout(ATTEMPT_MS) });
    return String(first).startsWith('SSH-');
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
