import { describe, expect, it } from 'vitest';
import { type Endpoint, HOST_ERROR } from './contract.ts';
import { algorithmsFor, hostKeyOf, judgeHostKey, parseHostKey } from './host-key.ts';
import { generateKeyPair } from './keys.ts';

const ED25519 = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYUqN9B1LjJY8XnFcN6o6t0kRK8tqH3jq4mGzq0y4dU';
const { publicKey: rsa } = await generateKeyPair('rsa');
const { publicKey: other } = await generateKeyPair('ed25519');

function endpoint(...hostKeys: string[]): Endpoint {
  return { address: '192.0.2.7', port: 22, user: 'root', secret: 's', hostKeys };
}

function key(line: string) {
  return hostKeyOf(Buffer.from(line.split(' ')[1] ?? '', 'base64'));
}

describe('a host key', () => {
  it('has the fingerprint that OpenSSH shows', () => {
    // ssh-keygen -lf - <<<"$ED25519"
    const fingerprint = 'SHA256:BKg99WEigcB+KUN0i9nkgdokeIAPFVfZXArvDagnEOs';
    expect(key(ED25519)).toEqual({ type: 'ssh-ed25519', line: ED25519, fingerprint });
  });

  it.each([ED25519, `  ${ED25519} root@host \n`])('is read from a line: %j', (line) => {
    expect(parseHostKey(line)?.line).toBe(ED25519);
  });

  it.each([
    '',
    'ssh-ed25519',
    'ssh-ed25519 AAAA',
    'ssh-ed25519 ????',
    ED25519.replace('ed25519', 'rsa'),
    `host ${ED25519}`,
  ])('is none: %j', (line) => expect(parseHostKey(line)).toBeUndefined());

  it('is asked for by the types that are known', () => {
    expect(algorithmsFor(endpoint(ED25519))).toEqual(['ssh-ed25519']);
    expect(algorithmsFor(endpoint(rsa))).toEqual(['rsa-sha2-512', 'rsa-sha2-256']);
    expect(algorithmsFor(endpoint(rsa, ED25519, 'nonsense'))).toEqual(['rsa-sha2-512', 'rsa-sha2-256', 'ssh-ed25519']);
    expect(algorithmsFor(endpoint())).toContain('ssh-ed25519');
    expect(algorithmsFor(endpoint())).not.toContain('ssh-rsa');
  });

  it('of which none can be read is not the same as none', () => {
    expect(() => algorithmsFor(endpoint('nonsense'))).toThrow(
      expect.objectContaining({ code: HOST_ERROR.hostKeyUnknown }),
    );
  });
});

describe.each(['strict', 'trust-on-first-use'] as const)('by policy %s', (policy) => {
  it('a known key is good', () => {
    expect(judgeHostKey(key(rsa), endpoint(ED25519, `${rsa} comment`), policy)).toBe('known');
  });

  it('another key than the known one has changed, and both are named', () => {
    expect(() => judgeHostKey(key(other), endpoint(ED25519), policy)).toThrow(
      expect.objectContaining({
        code: HOST_ERROR.hostKeyChanged,
        message:
          `192.0.2.7 shows another host key than the one that is known: ssh-ed25519 ${key(other).fingerprint} instead of ` +
          `ssh-ed25519 ${key(ED25519).fingerprint}; either it was set up anew, or somebody is between`,
      }),
    );
  });

  it('a key is never good because the known ones cannot be read', () => {
    expect(() => judgeHostKey(key(other), endpoint('nonsense'), policy)).toThrow(
      expect.objectContaining({ code: HOST_ERROR.hostKeyChanged }),
    );
  });
});
