import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

import { beforeAll, describe, expect, test } from 'vitest';

import { type CertificatePair, issuePair, keyMatches, parseCertificates, verificationProblem } from './certificate.ts';

const NAME = 'webhook.multi-platform-controller.svc';
const START_MS = Date.parse('2030-01-01T00:00:00Z');
const END_MS = Date.parse('2030-04-01T00:00:00Z');
const DURING_MS = Date.parse('2030-02-01T00:00:00Z');

let pair: CertificatePair;
let other: CertificatePair;

beforeAll(async () => {
  const issue = (): Promise<CertificatePair> =>
    issuePair({ names: [NAME, '127.0.0.1', '::1'], notBefore: new Date(START_MS), notAfter: new Date(END_MS) });
  [pair, other] = await Promise.all([issue(), issue()]);
});

/** The same is asked by Go's TLS in the tests on a real API server. */
const hasOpenssl = spawnSync('openssl', ['version']).status === 0;

describe('a pair that was issued', () => {
  test.each([NAME, '127.0.0.1', '::1'])('is trusted for %s by who trusts its CA', (name) => {
    expect(verificationProblem({ chain: pair.certificate, caBundle: pair.ca, name, nowMs: DURING_MS })).toBeNull();
  });

  test('is what RFC 5280 and Go ask of a server certificate', () => {
    const [ca] = parseCertificates(pair.ca);
    const [leaf] = parseCertificates(pair.certificate);
    expect(ca?.ca).toBe(true);
    expect(leaf?.ca).toBe(false);
    expect(leaf?.issuer).toBe(ca?.subject);
    // id-kp-serverAuth
    expect(leaf?.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
    expect(leaf?.publicKey.asymmetricKeyDetails?.modulusLength).toBe(2048);
    expect(leaf?.serialNumber).toMatch(/^40[0-9A-F]{30}$/);
    expect(leaf?.validFromDate.getTime()).toBe(START_MS);
    expect(leaf?.validToDate.getTime()).toBe(END_MS);
  });

  // oxlint-disable-next-line vitest/no-conditional-tests -- a skipped test would fail where there is no openssl
  if (hasOpenssl) {
    test('passes the strictest checks of OpenSSL', async () => {
      const folder = await mkdtemp(path.join(tmpdir(), 'webhook-certificate-'));
      try {
        await writeFile(path.join(folder, 'ca.crt'), pair.ca);
        await writeFile(path.join(folder, 'tls.crt'), pair.certificate);
        const time = String(DURING_MS / 1000);
        const args = ['verify', '-x509_strict', '-attime', time, '-purpose', 'sslserver', '-verify_hostname', NAME];
        const { stdout } = await promisify(execFile)('openssl', [...args, '-CAfile', 'ca.crt', 'tls.crt'], {
          cwd: folder,
        });
        expect(stdout.trim()).toBe('tls.crt: OK');
      } finally {
        await rm(folder, { recursive: true });
      }
    });
  }

  test('has a CA with a subject of its own', () => {
    expect(parseCertificates(pair.ca)[0]?.subject).not.toBe(parseCertificates(other.ca)[0]?.subject);
  });
});

describe('what an API server would refuse', () => {
  const problem = (changes: { chain?: string; caBundle?: string; name?: string; nowMs?: number }): string | null =>
    verificationProblem({ chain: pair.certificate, caBundle: pair.ca, name: NAME, nowMs: DURING_MS, ...changes });

  test('a certificate that has ended, or not begun', () => {
    expect(problem({ nowMs: END_MS })).toContain('valid from');
    expect(problem({ nowMs: END_MS - 1 })).toBeNull();
    expect(problem({ nowMs: START_MS - 1 })).toContain('valid from');
  });

  test('a certificate for another name', () => {
    expect(problem({ name: 'other.multi-platform-controller.svc' })).toContain('is not for other.');
    expect(problem({ name: '127.0.0.2' })).toContain('is not for 127.0.0.2');
  });

  test('a certificate of another CA, an empty bundle, and a bundle that is none', () => {
    expect(problem({ caBundle: other.ca })).toContain('not signed by a CA in the caBundle');
    expect(problem({ caBundle: '' })).toContain('the caBundle holds no certificate');
    expect(problem({ caBundle: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----' })).toContain(
      'the caBundle holds no certificate',
    );
    expect(problem({ chain: '' })).toContain('there is no certificate');
  });

  test('not a certificate whose CA is one of two', () => {
    expect(problem({ caBundle: other.ca + pair.ca })).toBeNull();
  });
});

test('a key belongs to its own certificate only', () => {
  expect(keyMatches(pair.certificate, pair.privateKey)).toBe(true);
  expect(keyMatches(pair.certificate, other.privateKey)).toBe(false);
  expect(keyMatches(pair.certificate, 'no key')).toBe(false);
  expect(keyMatches('no certificate', pair.privateKey)).toBe(false);
});
