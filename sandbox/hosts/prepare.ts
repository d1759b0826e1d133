import { type Interface, createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { AppError } from '#shared/errors.ts';
import { type Admin, type HostSpec, ROOT } from './host.ts';

const HOST_NAME = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/;

const SHELLS: Record<Admin['shell'], string> = {
  sh: '/bin/sh',
  bash: '/bin/bash',
  fish: '/usr/bin/fish',
  banner: '/usr/local/bin/banner-sh',
};

/**
 * What prepare-host.sh asks of the environment.
 *
 * @throws AppError `host-failed` where the name is not a host name.
 */
export function preparationOf(spec: HostSpec, port: number, adminPublicKey: string): Record<string, string> {
  const { name, admin = ROOT, rsaHostKey = false } = spec;
  if (!HOST_NAME.test(name)) throw new AppError('host-failed', `"${name}" is not a host name`);
  return {
    HOST_NAME: name,
    PORT: String(port),
    KEY_TYPES: rsaHostKey ? 'ed25519 rsa' : 'ed25519',
    ADMIN: admin.name,
    ADMIN_KEY: adminPublicKey,
    ADMIN_SHELL: SHELLS[admin.shell],
    ADMIN_SUDO: admin.sudo ? 'yes' : 'no',
  };
}

export function linesOf(input: Readable): Interface {
  return createInterface({ input });
}

/** The rest of the next line that begins with `prefix`; rejects where there comes none. */
export async function lineAfter(prefix: string, lines: Interface): Promise<string> {
  return await new Promise((resolve, reject) => {
    lines.on('line', (line) => line.startsWith(prefix) && resolve(line.slice(prefix.length)));
    lines.once('close', () => reject(new Error('it ended at once')));
  });
}
