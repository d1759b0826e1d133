import { AppError } from '#shared/errors.ts';
import type { Endpoint } from './contract.ts';

const SSH_PORT = 22;
/** What addresses and DNS names are made of; `*`, `?`, `!` and `,` would make a pattern of them. */
const PLAIN = /^[\w.:%-]+$/;

/**
 * The text of a `known_hosts` file for this host, one line for each of its keys (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
 *
 * @throws AppError `host.address` where the address is none.
 */
export function knownHosts({ address, port, hostKeys }: Pick<Endpoint, 'address' | 'port' | 'hostKeys'>): string {
  if (!PLAIN.test(address)) throw new AppError('host.address', 'the address of the host is no address and no DNS name');
  // The client looks for what it was asked to connect to, in lower case.
  const name = address.toLowerCase();
  const pattern = port === SSH_PORT ? name : `[${name}]:${port}`;
  return hostKeys.map((key) => `${pattern} ${key}\n`).join('');
}
