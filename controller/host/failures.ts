import { messageOf } from '#shared/errors.ts';
import { type Endpoint, HOST_ERROR, HostError } from './contract.ts';
import { hostAndPort, printable } from './text.ts';

/** What ssh2 and node:net put on their errors. */
interface Details {
  readonly code?: unknown;
  readonly level?: unknown;
}

const NETWORK_REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the connection was reset',
  EHOSTUNREACH: 'no route to it',
  ENETUNREACH: 'no route to its network',
  ENOTFOUND: 'no such name in DNS',
  EAI_AGAIN: 'DNS does not answer',
  ETIMEDOUT: 'no answer',
  EPIPE: 'the connection was closed',
};

/** Why there is no connection. `error` is a HostError already where we gave up on purpose. */
export function connectFailure(error: unknown, endpoint: Endpoint): HostError {
  if (error instanceof HostError) return error;
  const { code, level } = typeof error === 'object' && error !== null ? (error as Details) : {};
  const host = hostAndPort(endpoint);
  const options = { cause: error };
  if (level === 'client-authentication') {
    const { user, secret } = endpoint;
    const message = `${host} refuses the key of its admin "${user}" (id_rsa in the Secret "${secret}")`;
    return new HostError(HOST_ERROR.authentication, printable(message), options);
  }
  const text = messageOf(error);
  if (/no matching host key/.test(text) && endpoint.hostKeys.length > 0) {
    const types = endpoint.hostKeys.map((line) => line.split(' ', 1)[0]).join(', ');
    const message = `${host} has no host key of the known type any more (${types})`;
    return new HostError(HOST_ERROR.hostKeyChanged, printable(message), options);
  }
  const reason = (typeof code === 'string' ? NETWORK_REASONS[code] : undefined) ?? printable(text);
  return new HostError(HOST_ERROR.unreachable, `cannot connect to ${host}: ${reason}`, options);
}

/** The shell that we asked for ended without an answer of our script. */
export function noAnswer(
  { exit, stderr }: { readonly exit: string | undefined; readonly stderr: string },
  { user }: Endpoint,
): HostError {
  const last = printable(stderr.trimEnd().split('\n').at(-1) ?? '');
  if (user !== 'root' && /\bsudo\b/i.test(stderr)) {
    const message = `the admin "${printable(user)}" may not run commands as root with "sudo -n": ${last}`;
    return new HostError(HOST_ERROR.noSudo, message);
  }
  const { code: kind } = classify(stderr);
  const message = `the host's shell gave no answer (${exit})${last === '' ? '' : `: ${last}`}`;
  return new HostError(kind, message, { mayHaveActed: true });
}

/** What the text of a failed command means; the host speaks in the C locale. */
export function classify(text: string): { code: HostError['code']; meaning: string } {
  if (/No space left on device|Disk quota exceeded/i.test(text)) {
    return { code: HOST_ERROR.diskFull, meaning: 'the disk of the host is full' };
  }
  if (/Read-only file system/i.test(text)) {
    return { code: HOST_ERROR.readOnly, meaning: 'a file system of the host is read-only' };
  }
  return { code: HOST_ERROR.failed, meaning: 'a command failed on the host' };
}
