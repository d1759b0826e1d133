import { createHash } from 'node:crypto';
import type { ServerHostKeyAlgorithm } from 'ssh2';
import { type Endpoint, HOST_ERROR, HostError } from './contract.ts';
import { hostAndPort } from './text.ts';

export const HOST_KEY_POLICIES = ['strict', 'trust-on-first-use'] as const;
/** What to do with a host that no key is known of. One that shows another key than the known ones is always refused. */
export type HostKeyPolicy = (typeof HOST_KEY_POLICIES)[number];

export interface HostKey {
  readonly type: string;
  /** `type base64` */
  readonly line: string;
  /** `SHA256:…`, as `ssh-keygen -l` shows it. */
  readonly fingerprint: string;
}

/** What is asked for, by type of key; none with SHA-1. */
const ALGORITHMS: Readonly<Record<string, readonly ServerHostKeyAlgorithm[]>> = {
  'ssh-ed25519': ['ssh-ed25519'],
  'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
  'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
};

/** @param blob the key as it goes over the wire: its type as a string, then the rest. */
export function hostKeyOf(blob: Buffer): HostKey {
  const end = blob.length < 4 ? 0 : 4 + blob.readUInt32BE();
  const type = blob.toString('latin1', 4, end);
  const fingerprint = `SHA256:${createHash('sha256').update(blob).digest('base64').replaceAll('=', '')}`;
  return { type, line: `${type} ${blob.toString('base64')}`, fingerprint };
}

/** @param line `type base64`, a comment may follow; undefined where it is no such line. */
export function parseHostKey(line: string): HostKey | undefined {
  const [type, base64 = ''] = line.trim().split(/\s+/);
  const key = hostKeyOf(Buffer.from(base64, 'base64'));
  return key.type !== '' && key.type === type ? key : undefined;
}

/**
 * The algorithms to offer, so that a host with keys of several types shows one that we can compare. Without a known key: all.
 *
 * @throws HostError `host.key-unknown` where none of the known keys can be used.
 */
export function algorithmsFor({ hostKeys }: Endpoint): ServerHostKeyAlgorithm[] {
  if (hostKeys.length === 0) return Object.values(ALGORITHMS).flat();
  const types = new Set(hostKeys.map((line) => parseHostKey(line)?.type ?? ''));
  const algorithms = [...types].flatMap((type) => ALGORITHMS[type] ?? []);
  if (algorithms.length > 0) return algorithms;
  const known = Object.keys(ALGORITHMS).join(', ');
  throw new HostError(HOST_ERROR.hostKeyUnknown, `none of its configured host keys can be read as one of ${known}`);
}

/**
 * `known`, or `first` for one that is to be trusted from now on.
 *
 * @throws HostError `host.key-unknown`, `host.key-changed`
 */
export function judgeHostKey(shown: HostKey, endpoint: Endpoint, policy: HostKeyPolicy): 'known' | 'first' {
  const { hostKeys } = endpoint;
  const host = hostAndPort(endpoint);
  if (hostKeys.length > 0) {
    const known = hostKeys.flatMap((line) => parseHostKey(line) ?? []);
    if (known.some(({ line }) => line === shown.line)) return 'known';
    const expected = known.map(({ type, fingerprint }) => `${type} ${fingerprint}`).join(' or ');
    throw new HostError(
      HOST_ERROR.hostKeyChanged,
      `${host} shows another host key than the one that is known: ${shown.type} ${shown.fingerprint} instead of ` +
        `${expected}; either it was set up anew, or somebody is between`,
    );
  }
  if (policy === 'trust-on-first-use') return 'first';
  throw new HostError(
    HOST_ERROR.hostKeyUnknown,
    `no host key of ${host} is known; it shows ${shown.type} ${shown.fingerprint}: if that is its own, ` +
      `set .host-key to "${shown.line}"`,
  );
}
