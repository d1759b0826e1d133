import { once } from 'node:events';
import { type Socket, connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '#shared/errors.ts';

const TIMEOUT_MS = 20_000;
const ATTEMPT_MS = 500;
const PAUSE_MS = 10;

/**
 * Returns when an SSH server greets there (RFC 4253, 4.2: its first line begins with `SSH-`).
 *
 * @throws AppError `no-answer` after 20 s.
 */
export async function waitForSsh(address: string, port: number): Promise<void> {
  await waitFor(address, port, async (socket, signal) => {
    const [first]: unknown[] = await once(socket, 'data', { signal });
    return String(first).startsWith('SSH-');
  });
}

/**
 * Returns when a connection is accepted there.
 *
 * @throws AppError `no-answer` after 20 s.
 */
export async function waitForTcp(address: string, port: number): Promise<void> {
  await waitFor(address, port, async (socket, signal) => {
    await once(socket, 'connect', { signal });
    return true;
  });
}

type Check = (socket: Socket, signal: AbortSignal) => Promise<boolean>;

async function waitFor(host: string, port: number, check: Check): Promise<void> {
  const deadline = performance.now() + TIMEOUT_MS;
  const attempt = async (): Promise<boolean> => {
    const socket = connect({ host, port });
    try {
      return await check(socket, AbortSignal.timeout(ATTEMPT_MS));
    } catch {
      return false;
    } finally {
      socket.destroy();
    }
  };
  while (!(await attempt())) {
    if (performance.now() > deadline) throw new AppError('no-answer', `nothing answers at ${host} port ${port}`);
    await sleep(PAUSE_MS);
  }
}
