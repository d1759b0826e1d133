import { generateKeyPairSync, pbkdf2 } from 'node:crypto';
import ssh2 from 'ssh2';
import { describe, expect, it } from 'vitest';
import { type KeyPair, generateKeyPair, serialize } from './keys.ts';

/** What ssh2 says that the public half of the private one is. */
function publicKeyIn({ privateKey }: KeyPair): string {
  const parsed = ssh2.utils.parseKey(privateKey);
  if (parsed instanceof Error) throw parsed;
  return `${parsed.type} ${parsed.getPublicSSH().toString('base64')}`;
}

/** That OpenSSH reads them is tried in test/e2e/host-openssh.e2e.test.ts. */
describe('a key pair', () => {
  it.each(['ed25519', 'rsa'] as const)('has two halves that belong together: %s', async (type) => {
    const pair = await generateKeyPair(type);
    expect(pair.publicKey).toMatch(/^ssh-(?:ed25519|rsa) AAAA[A-Za-z0-9+/=]+$/);
    expect(publicKeyIn(pair)).toBe(pair.publicKey);
  });

  it('signs what its public half verifies', async () => {
    const { privateKey, publicKey } = await generateKeyPair('ed25519');
    const [signer, verifier] = [ssh2.utils.parseKey(privateKey), ssh2.utils.parseKey(publicKey)];
    if (signer instanceof Error || verifier instanceof Error) throw new Error('cannot be read');
    expect(verifier.verify('text', signer.sign('text'))).toBe(true);
    expect(verifier.verify('other text', signer.sign('text'))).toBe(false);
  });

  it.each([
    ['begins with a zero', (publicKey: Buffer) => publicKey[0] === 0],
    ['ends with a zero', (publicKey: Buffer) => publicKey[31] === 0],
    ['has its highest bit set', (publicKey: Buffer) => (publicKey[0] ?? 0) >= 0x80],
  ])('is whole when the Ed25519 public key %s', (_, isWanted) => {
    let key = generateKeyPairSync('ed25519').privateKey;
    while (!isWanted(Buffer.from(key.export({ format: 'jwk' }).x ?? '', 'base64url'))) {
      key = generateKeyPairSync('ed25519').privateKey;
    }
    const pair = serialize(key);
    expect(pair.publicKey).toHaveLength('ssh-ed25519 '.length + 68);
    expect(publicKeyIn(pair)).toBe(pair.publicKey);
  });

  it('is made while all threads of the pool are busy: Ed25519', async () => {
    let busy = 4;
    for (let thread = 0; thread < 4; thread++) pbkdf2('x', 'y', 100_000, 32, 'sha512', () => busy--);
    await generateKeyPair('ed25519');
    expect(busy).toBe(4);
  });

  it('is another one each time', async () => {
    const pairs = [await generateKeyPair('ed25519'), await generateKeyPair('ed25519')];
    expect(new Set(pairs.flatMap(({ privateKey, publicKey }) => [privateKey, publicKey])).size).toBe(4);
  });
});
