import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import ssh2 from 'ssh2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type KeyPair, generateKeyPair, serialize } from './keys.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'keys-test-'));
});
afterAll(async () => await rm(folder, { recursive: true, force: true }));

/** What OpenSSH says that the public half is. */
async function publicKeyByOpenSsh({ privateKey }: KeyPair): Promise<string> {
  const file = path.join(folder, 'key');
  await writeFile(file, privateKey, { mode: 0o600 });
  const { stdout, stderr } = spawnSync('ssh-keygen', ['-y', '-P', '', '-f', file], { encoding: 'utf8' });
  expect(stderr).toBe('');
  return stdout.trim();
}

describe('a key pair', () => {
  it('is read by OpenSSH, hundreds of Ed25519 ones', async () => {
    for (let i = 0; i < 300; i++) {
      const pair = await generateKeyPair('ed25519');
      expect(await publicKeyByOpenSsh(pair)).toBe(pair.publicKey);
    }
  }, 60_000);

  it.each([
    ['begins with a zero', (publicKey: Buffer) => publicKey[0] === 0],
    ['ends with a zero', (publicKey: Buffer) => publicKey[31] === 0],
    ['has its highest bit set', (publicKey: Buffer) => (publicKey[0] ?? 0) >= 0x80],
  ])('is read by OpenSSH and by ssh2 when the Ed25519 public key %s', async (_, isWanted) => {
    let key = generateKeyPairSync('ed25519').privateKey;
    while (!isWanted(Buffer.from(key.export({ format: 'jwk' }).x ?? '', 'base64url'))) {
      key = generateKeyPairSync('ed25519').privateKey;
    }
    const pair = serialize(key);
    expect(await publicKeyByOpenSsh(pair)).toBe(pair.publicKey);
    expect(publicKeyBySsh2(pair)).toBe(pair.publicKey);
  });

  it('is read by OpenSSH and by ssh2 when it is RSA', async () => {
    const pair = await generateKeyPair('rsa');
    expect(pair.publicKey).toMatch(/^ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ[A-Za-z0-9+/=]+$/);
    expect(await publicKeyByOpenSsh(pair)).toBe(pair.publicKey);
    expect(publicKeyBySsh2(pair)).toBe(pair.publicKey);
  });

  it('is another one each time', async () => {
    const pairs = [await generateKeyPair('ed25519'), await generateKeyPair('ed25519')];
    expect(new Set(pairs.flatMap(({ privateKey, publicKey }) => [privateKey, publicKey])).size).toBe(4);
  });
});

function publicKeyBySsh2({ privateKey }: KeyPair): string {
  const parsed = ssh2.utils.parseKey(privateKey);
  if (parsed instanceof Error) throw parsed;
  return `${parsed.type} ${parsed.getPublicSSH().toString('base64')}`;
}
