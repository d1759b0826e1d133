import { afterEach } from 'vitest';
import { Connection, type ConnectionOptions, type ConnectionState } from './connection.ts';
import { HostError } from './contract.ts';
import { generateKeyPair } from './keys.ts';
import {
  type Request,
  type StandInOptions,
  type StandInSshServer,
  type SteppedClock,
  createSteppedClock,
  startStandInSshServer,
} from './stand-in-ssh-server.ts';

export const ADMIN_KEY = await generateKeyPair('ed25519');
export const TIMEOUT_MS = 30_000;

/** Run after each test, the last one first. */
export const toStop: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of toStop.splice(0).toReversed()) await stop();
});

export interface Setting {
  readonly server: StandInSshServer;
  readonly clock: SteppedClock;
  readonly states: ConnectionState[];
  readonly requests: Request[];
  readonly connection: Connection;
  readonly run: (script?: string) => Promise<unknown>;
}

/** A server that answers each command with its script's last line, until a test says otherwise. */
export async function setUp(
  { onRequest, ...serverOptions }: Partial<StandInOptions> = {},
  options: Partial<ConnectionOptions> & { user?: string; hostKeys?: readonly string[] } = {},
): Promise<Setting> {
  const requests: Request[] = [];
  const server = await startStandInSshServer({
    ...serverOptions,
    onRequest: (request) => {
      requests.push(request);
      (onRequest ?? echo)(request);
    },
  });
  const clock = createSteppedClock();
  const states: ConnectionState[] = [];
  const { user = 'root', hostKeys = [server.hostKey.publicKey], ...rest } = options;
  const connection = new Connection({
    endpoint: { ...server.endpoint, user, hostKeys },
    adminKey: () => ADMIN_KEY.privateKey,
    policy: 'strict',
    onFirstKey: async () => await Promise.reject(new Error('no first key is expected')),
    onStateChange: (state) => states.push(state),
    clock,
    ...rest,
  });
  toStop.push(
    async () => await server.stop(),
    () => connection.close(),
  );
  const run = async (script = 'hello'): Promise<unknown> => await connection.run(script, { timeoutMs: TIMEOUT_MS });
  return { server, clock, states, requests, connection, run };
}

export function echo(request: Request): void {
  request.answer(request.script.split('\n').at(-1));
}

export async function errorOf(work: Promise<unknown>): Promise<HostError> {
  const error: unknown = await work.catch((caught: unknown) => caught);
  if (error instanceof HostError) return error;
  throw new Error(`no HostError, but ${String(error)}`, { cause: error });
}
