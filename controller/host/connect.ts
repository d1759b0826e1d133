import { once } from 'node:events';
import { type Socket, connect as connectSocket } from 'node:net';
import ssh2, { type ServerHostKeyAlgorithm } from 'ssh2';
import type { Clock } from '#shared/clock.ts';
import { type Endpoint, HOST_ERROR, HostError } from './contract.ts';
import { connectFailure } from './failures.ts';
import { type HostKeyPolicy, algorithmsFor, hostKeyOf, judgeHostKey } from './host-key.ts';
import { hostAndPort, printable } from './text.ts';
import { withinTime } from './time-limit.ts';

export interface ConnectOptions {
  readonly endpoint: Endpoint;
  /** The admin's private key. */
  readonly privateKey: string | undefined;
  readonly policy: HostKeyPolicy;
  readonly clock: Clock;
  /** For the TCP connection, and once more for the SSH handshake with authentication. */
  readonly timeoutMs: number;
  readonly keepaliveIntervalMs: number;
  /** Gives up when aborted. */
  readonly signal: AbortSignal;
}

export interface Connected {
  readonly client: ssh2.Client;
  readonly socket: Socket;
  /** The host's key, `type base64`, where none was known before. */
  readonly firstKey: string | undefined;
}

/** A peer that leaves this many keepalives unanswered is dead. */
const KEEPALIVE_COUNT_MAX = 2;

/**
 * An authenticated connection to a host that has shown a key that we accept.
 *
 * @throws HostError
 */
export async function connect(options: ConnectOptions): Promise<Connected> {
  const { endpoint, clock, timeoutMs, signal } = options;
  const privateKey = readAdminKey(options);
  const algorithms = algorithmsFor(endpoint);
  let socket: Socket | undefined;
  try {
    socket = openSocket(endpoint);
    const limit = (what: string): Parameters<typeof withinTime>[1] => ({
      clock,
      ms: timeoutMs,
      late: () => unreachable(endpoint, `${what} in ${timeoutMs / 1000} s`),
    });
    await withinTime(once(socket, 'connect', { signal }), limit('no answer'));
    return await withinTime(
      authenticate(socket, { ...options, privateKey, algorithms }),
      limit('it did not finish the handshake'),
    );
  } catch (error) {
    socket?.on('error', () => undefined).destroy();
    throw signal.aborted ? closedOnPurpose(endpoint, error) : connectFailure(error, endpoint);
  }
}

/** Without TCP_NODELAY each command waits for delayed acknowledgements, 40 ms at a time. */
function openSocket({ address, port }: Endpoint): Socket {
  return connectSocket({ host: address, port, noDelay: true });
}

async function authenticate(
  socket: Socket,
  options: ConnectOptions & { readonly privateKey: string; readonly algorithms: ServerHostKeyAlgorithm[] },
): Promise<Connected> {
  const { endpoint, policy, privateKey, algorithms, keepaliveIntervalMs, signal } = options;
  const client = new ssh2.Client();
  let firstKey: string | undefined;
  let refusal: unknown;
  const settled = new AbortController();
  const hostVerifier = (blob: Buffer): boolean => {
    const shown = hostKeyOf(blob);
    // Asked again whenever the session keys are renewed.
    if (firstKey !== undefined) return shown.line === firstKey;
    try {
      if (judgeHostKey(shown, endpoint, policy) === 'first') firstKey = shown.line;
      return true;
    } catch (error) {
      refusal = error;
      return false;
    }
  };
  const ready = new Promise<void>((resolve, reject) => {
    client.once('ready', resolve);
    client.once('error', (error) => reject(refusal ?? error));
    client.once('close', () => reject(new Error('the connection was closed')));
    signal.addEventListener('abort', () => reject(new Error('given up')), { once: true, signal: settled.signal });
  }).finally(() => settled.abort());
  // Later ones: the connection closes after each, which is what counts.
  client.on('error', () => undefined);
  client.connect({
    sock: socket,
    username: endpoint.user,
    privateKey,
    authHandler: ['publickey'],
    algorithms: { serverHostKey: algorithms },
    hostVerifier,
    readyTimeout: 0,
    keepaliveInterval: keepaliveIntervalMs,
    keepaliveCountMax: KEEPALIVE_COUNT_MAX,
  });
  await ready;
  return { client, socket, firstKey };
}

/** The key as ssh2 wants it: Secrets are written by hand, with other line ends or none at the end. */
function readAdminKey({ privateKey, endpoint }: ConnectOptions): string {
  const where = `the admin's key (id_rsa in the Secret "${printable(endpoint.secret)}")`;
  if (privateKey === undefined || privateKey.trim() === '') {
    throw new HostError(HOST_ERROR.adminKey, `${where} is missing`);
  }
  const text = `${privateKey.replaceAll('\r\n', '\n').trim()}\n`;
  const parsed = ssh2.utils.parseKey(text);
  if (parsed instanceof Error) {
    const why = /encrypted/i.test(parsed.message) ? 'has a passphrase' : 'cannot be read as a private key';
    throw new HostError(HOST_ERROR.adminKey, `${where} ${why}`);
  }
  if (!parsed.isPrivateKey()) throw new HostError(HOST_ERROR.adminKey, `${where} is a public key`);
  return text;
}

function unreachable(endpoint: Endpoint, reason: string): HostError {
  return new HostError(HOST_ERROR.unreachable, `cannot connect to ${hostAndPort(endpoint)}: ${reason}`);
}

function closedOnPurpose(endpoint: Endpoint, cause: unknown): HostError {
  return new HostError(HOST_ERROR.unreachable, `the connection to ${hostAndPort(endpoint)} is not wanted any more`, {
    cause,
  });
}
