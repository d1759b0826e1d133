import {
  type JsonWebKey,
  type KeyObject,
  generateKeyPair as generate,
  generateKeyPairSync,
  randomBytes,
} from 'node:crypto';
import { promisify } from 'node:util';
import { wireBytes, wireInteger, wireString } from './wire.ts';

export const KEY_TYPES = ['ed25519', 'rsa'] as const;
export type KeyType = (typeof KEY_TYPES)[number];

export interface KeyPair {
  /** As `ssh-keygen` writes it, without a passphrase. */
  readonly privateKey: string;
  /** One line, `type base64`. */
  readonly publicKey: string;
}

/** What OpenSSH makes by default. */
const RSA_BITS = 3072;
/** Cipher "none" pads to this all the same (OpenSSH, PROTOCOL.key). */
const BLOCK_BYTES = 8;
const LINE_LENGTH = 70;

const generateAsync = promisify(generate);

/**
 * Made here, in memory. The ssh2 package has a generator too, but it strips the zeros that an Ed25519 public key begins with,
 * and OpenSSH refuses one key in 256 of it.
 */
export async function generateKeyPair(type: KeyType): Promise<KeyPair> {
  // Ed25519 takes 0.1 ms. In the thread pool it would wait behind look-ups in DNS, which may hang for many seconds.
  const { privateKey } =
    type === 'rsa' ? await generateAsync('rsa', { modulusLength: RSA_BITS }) : generateKeyPairSync('ed25519');
  return serialize(privateKey);
}

/** @param key an Ed25519 or RSA private key. */
export function serialize(key: KeyObject): KeyPair {
  const jwk = key.export({ format: 'jwk' });
  const { type, publicFields, privateFields } = jwk.kty === 'RSA' ? rsaFields(jwk) : ed25519Fields(jwk);
  const publicBlob = Buffer.concat([wireString(type), ...publicFields]);
  return { privateKey: armor(privateBlob(type, publicBlob, privateFields)), publicKey: line(type, publicBlob) };
}

interface Fields {
  readonly type: string;
  readonly publicFields: readonly Buffer[];
  readonly privateFields: readonly Buffer[];
}

/** RFC 8709, 4; the private half as OpenSSH keeps it: the seed and the public key in one string. */
function ed25519Fields({ x, d }: JsonWebKey): Fields {
  const publicKey = bytes(x);
  return {
    type: 'ssh-ed25519',
    publicFields: [wireBytes(publicKey)],
    privateFields: [wireBytes(publicKey), wireBytes(Buffer.concat([bytes(d), publicKey]))],
  };
}

/** RFC 4253, 6.6: e before n in public; OpenSSH's private order has n first. */
function rsaFields({ n, e, d, p, q, qi }: JsonWebKey): Fields {
  return {
    type: 'ssh-rsa',
    publicFields: [e, n].map((field) => wireInteger(bytes(field))),
    privateFields: [n, e, d, qi, p, q].map((field) => wireInteger(bytes(field))),
  };
}

function bytes(field: string | undefined): Buffer {
  return Buffer.from(field ?? '', 'base64url');
}

/** OpenSSH, PROTOCOL.key: the check number comes twice, so that a wrong passphrase is noticed. */
function privateBlob(type: string, publicBlob: Buffer, privateFields: readonly Buffer[]): Buffer {
  const check = randomBytes(4);
  const secret = Buffer.concat([check, check, wireString(type), ...privateFields, wireString('')]);
  const padding = Array.from({ length: (BLOCK_BYTES - (secret.length % BLOCK_BYTES)) % BLOCK_BYTES }, (_, i) => i + 1);
  return Buffer.concat([
    Buffer.from('openssh-key-v1\0'),
    wireString('none'),
    wireString('none'),
    wireString(''),
    Buffer.from([0, 0, 0, 1]),
    wireBytes(publicBlob),
    wireBytes(Buffer.concat([secret, Buffer.from(padding)])),
  ]);
}

function armor(blob: Buffer): string {
  const lines = blob.toString('base64').match(new RegExp(`.{1,${LINE_LENGTH}}`, 'g')) ?? [];
  return ['-----BEGIN OPENSSH PRIVATE KEY-----', ...lines, '-----END OPENSSH PRIVATE KEY-----', ''].join('\n');
}

function line(type: string, publicBlob: Buffer): string {
  return `${type} ${publicBlob.toString('base64')}`;
}
