import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateKeyPair } from './keys.ts';
import { knownHosts } from './known-hosts.ts';

const { publicKey } = await generateKeyPair('ed25519');
const { publicKey: rsaKey } = await generateKeyPair('rsa');

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'known-hosts-test-'));
});
afterAll(async () => await rm(folder, { recursive: true, force: true }));

/** The keys that OpenSSH finds there for what its user typed. */
async function keysFoundByOpenSsh(text: string, typed: string): Promise<string[]> {
  const file = path.join(folder, 'known_hosts');
  await writeFile(file, text);
  const { stdout } = spawnSync('ssh-keygen', ['-F', typed, '-f', file], { encoding: 'utf8' });
  const lines = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return lines.map((line) => line.split(' ').slice(1).join(' '));
}

describe('the text of known_hosts', () => {
  it('is as it was always written', () => {
    expect(knownHosts({ address: '192.0.2.7', port: 22, hostKeys: ['ssh-ed25519 AAAA', 'ssh-rsa BBBB'] })).toBe(
      '192.0.2.7 ssh-ed25519 AAAA\n192.0.2.7 ssh-rsa BBBB\n',
    );
    expect(knownHosts({ address: 'fd00::7', port: 2222, hostKeys: ['ssh-ed25519 AAAA'] })).toBe(
      '[fd00::7]:2222 ssh-ed25519 AAAA\n',
    );
  });

  it.each([
    ['192.0.2.7', 22, '192.0.2.7'],
    ['192.0.2.7', 2222, '[192.0.2.7]:2222'],
    ['fd00::7', 22, 'fd00::7'],
    ['fd00::7', 2222, '[fd00::7]:2222'],
    ['fe80::7%eth0', 22, 'fe80::7%eth0'],
    ['Build.Example.ORG', 22, 'build.example.org'],
    ['Build.Example.ORG', 2222, '[build.example.org]:2222'],
  ])('is understood by OpenSSH for %s at port %d', async (address, port, typed) => {
    const text = knownHosts({ address, port, hostKeys: [publicKey, rsaKey] });
    expect(await keysFoundByOpenSsh(text, typed)).toEqual([publicKey, rsaKey]);
    expect(await keysFoundByOpenSsh(text, 'elsewhere')).toEqual([]);
    expect(await keysFoundByOpenSsh(text, port === 22 ? `[${typed}]:23` : typed.replace(/\W\d+$/, ''))).toEqual([]);
  });

  it.each(['*', 'a,b', '!a', 'a b', 'a\nb', '', '192.0.2.?', '|1|x', '@cert-authority'])(
    'is not made for an address that would be more than one: %j',
    (address) => {
      const make = (): string => knownHosts({ address, port: 22, hostKeys: [publicKey] });
      expect(make).toThrow(expect.objectContaining({ code: 'host.address' }));
    },
  );
});
