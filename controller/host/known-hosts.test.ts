import { describe, expect, it } from 'vitest';
import { knownHosts } from './known-hosts.ts';

/** That OpenSSH understands it is tried in test/e2e/host-openssh.e2e.test.ts. */
describe('the text of known_hosts', () => {
  it('is as it was always written', () => {
    expect(knownHosts({ address: '192.0.2.7', port: 22, hostKeys: ['ssh-ed25519 AAAA', 'ssh-rsa BBBB'] })).toBe(
      '192.0.2.7 ssh-ed25519 AAAA\n192.0.2.7 ssh-rsa BBBB\n',
    );
    expect(knownHosts({ address: 'fd00::7', port: 2222, hostKeys: ['ssh-ed25519 AAAA'] })).toBe(
      '[fd00::7]:2222 ssh-ed25519 AAAA\n',
    );
  });

  it.each(['*', 'a,b', '!a', 'a b', 'a\nb', '', '192.0.2.?', '|1|x', '@cert-authority'])(
    'is not made for an address that would be more than one: %j',
    (address) => {
      const make = (): string => knownHosts({ address, port: 22, hostKeys: ['ssh-ed25519 AAAA'] });
      expect(make).toThrow(expect.objectContaining({ code: 'host.address' }));
    },
  );
});
