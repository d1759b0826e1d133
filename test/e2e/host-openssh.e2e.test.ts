import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type KeyPair, generateKeyPair, serialize } from '#controller/host/keys.ts';
import { knownHosts } from '#controller/host/known-hosts.ts';
import { runCommand } from '#sandbox/hosts/command.ts';
import { ensureCommands } from '#sandbox/packages.ts';

let folder = '';
beforeAll(async () => {
  await ensureCommands(['ssh'], console.log);
  folder = await mkdtemp(path.join(tmpdir(), 'openssh-test-'));
}, 300_000);
afterAll(async () => await rm(folder, { recursive: true, force: true }));

describe('a key pair', () => {
  /** What OpenSSH says that the public half is. */
  async function publicKeyIn({ privateKey }: KeyPair): Promise<string> {
    const file = path.join(folder, 'key');
    await writeFile(file, privateKey, { mode: 0o600 });
    const { stdout, stderr } = await runCommand('ssh-keygen', ['-y', '-P', '', '-f', file]);
    expect(stderr).toBe('');
    return stdout.trim();
  }

  test('is read by OpenSSH where its public key begins with a zero, as one in 256 does', async () => {
    let key = generateKeyPairSync('ed25519').privateKey;
    while (Buffer.from(key.export({ format: 'jwk' }).x ?? '', 'base64url')[0] !== 0) {
      key = generateKeyPairSync('ed25519').privateKey;
    }
    const pair = serialize(key);
    expect(await publicKeyIn(pair)).toBe(pair.publicKey);
  });

  test('is read by OpenSSH, 300 times', async () => {
    for (let i = 0; i < 300; i++) {
      const pair = await generateKeyPair('ed25519');
      expect(await publicKeyIn(pair)).toBe(pair.publicKey);
    }
  });

  test('is read by OpenSSH where it is RSA', async () => {
    const pair = await generateKeyPair('rsa');
    expect(pair.publicKey).toMatch(/^ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ[A-Za-z0-9+/=]+$/);
    expect(await publicKeyIn(pair)).toBe(pair.publicKey);
  });
});

describe('the text of known_hosts', () => {
  /** The keys that OpenSSH finds there for what its user typed. */
  async function keysFoundIn(text: string, typed: string): Promise<string[]> {
    const file = path.join(folder, 'known_hosts');
    await writeFile(file, text);
    const { stdout } = await runCommand('ssh-keygen', ['-F', typed, '-f', file]);
    const lines = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return lines.map((line) => line.split(' ').slice(1).join(' '));
  }

  test.each([
    ['192.0.2.7', 22, '192.0.2.7'],
    ['192.0.2.7', 2222, '[192.0.2.7]:2222'],
    ['fd00::7', 22, 'fd00::7'],
    ['fd00::7', 2222, '[fd00::7]:2222'],
    ['fe80::7%eth0', 22, 'fe80::7%eth0'],
    ['Build.Example.ORG', 22, 'build.example.org'],
    ['Build.Example.ORG', 2222, '[build.example.org]:2222'],
  ])('is understood by OpenSSH for %s at port %d', async (address, port, typed) => {
    const { publicKey } = await generateKeyPair('ed25519');
    const { publicKey: rsaKey } = await generateKeyPair('rsa');
    const text = knownHosts({ address, port, hostKeys: [publicKey, rsaKey] });
    expect(await keysFoundIn(text, typed)).toEqual([publicKey, rsaKey]);
    expect(await keysFoundIn(text, 'elsewhere')).toEqual([]);
    expect(await keysFoundIn(text, port === 22 ? `[${typed}]:23` : typed.replace(/\W\d+$/, ''))).toEqual([]);
  });
});
