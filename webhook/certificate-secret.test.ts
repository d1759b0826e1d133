import { beforeAll, describe, expect, test } from 'vitest';

import type { Secret } from '#shared/kubernetes/objects.ts';
import { type CertificatePair, issuePair } from './certificate.ts';
import {
  type CertificateDecision,
  type CertificateState,
  type CertificateTiming,
  caBundleOf,
  decideCertificate,
  decodeSecret,
  encodeSecret,
  pairToServe,
} from './certificate-secret.ts';

const NAME = 'webhook.ns.svc';
const DAY_MS = 86_400_000;
const TIMING: CertificateTiming = {
  validityMs: 90 * DAY_MS,
  renewBeforeMs: 30 * DAY_MS,
  stageMs: 60_000,
  retireMs: 3_600_000,
  backdateMs: 3_600_000,
};
const FIRST_MS = Date.parse('2030-01-01T00:00:00Z');
const SECOND_MS = FIRST_MS + 60 * DAY_MS + 1000;

let first: CertificatePair;
let second: CertificatePair;

beforeAll(async () => {
  const issue = (nowMs: number): Promise<CertificatePair> =>
    issuePair({
      names: [NAME],
      notBefore: new Date(nowMs - TIMING.backdateMs),
      notAfter: new Date(nowMs + TIMING.validityMs),
    });
  [first, second] = await Promise.all([issue(FIRST_MS), issue(SECOND_MS)]);
});

function secretWith(state: CertificateState, changes: Record<string, string> = {}): Secret {
  return { metadata: { name: 'certificate' }, data: { ...encodeSecret(state), ...changes } };
}

function decide(
  secret: Secret | null,
  nowMs: number,
  { served = null, names = [NAME] }: { served?: CertificatePair | null; names?: string[] } = {},
): CertificateDecision {
  return decideCertificate({ secret, served, names, nowMs, timing: TIMING });
}

test('what is written is what is read, with one pair and with two', () => {
  const one = { newest: first, previous: null };
  const two = { newest: second, previous: first };
  expect(decodeSecret(secretWith(one))).toEqual(one);
  expect(decodeSecret(secretWith(two))).toEqual(two);
  expect(caBundleOf(two)).toBe(second.ca + first.ca);
});

describe('on an empty cluster', () => {
  test.each<[string, () => Secret | null]>([
    ['no Secret', () => null],
    ['an empty Secret', () => ({ metadata: { name: 'certificate' } })],
  ])('%s: a pair is issued, with nothing before it', (_what, secret) => {
    expect(decide(secret(), FIRST_MS)).toMatchObject({ do: 'issue', previous: null });
  });
});

describe('while nothing is wrong', () => {
  test('the Secret is kept until a third of its time is left', () => {
    const secret = secretWith({ newest: first, previous: null });
    expect(decide(secret, FIRST_MS).do).toBe('keep');
    expect(decide(secret, FIRST_MS + 60 * DAY_MS).do).toBe('keep');
    expect(decide(secret, FIRST_MS + 60 * DAY_MS + 1)).toMatchObject({ do: 'issue', previous: first });
  });

  test('the previous pair stays for an hour after the new one was issued', () => {
    const state = { newest: second, previous: first };
    expect(decide(secretWith(state), SECOND_MS + TIMING.retireMs - 1)).toEqual({ do: 'keep', state });
    expect(decide(secretWith(state), SECOND_MS + TIMING.retireMs)).toMatchObject({
      do: 'write',
      state: { newest: second, previous: null },
    });
  });
});

describe('when the Secret is gone or spoilt', () => {
  const spoilt: [string, Record<string, string>][] = [
    ['ca.crt is empty', { 'ca.crt': '' }],
    ['tls.crt is no certificate', { 'tls.crt': 'AAAA' }],
    ['tls.key is no key', { 'tls.key': 'AAAA' }],
  ];
  test.each(spoilt)(
    '%s: a new pair is issued; what is served bridges the time until it is trusted',
    (_what, changes) => {
      const secret = secretWith({ newest: first, previous: null }, changes);
      expect(decide(secret, FIRST_MS)).toMatchObject({ do: 'issue', previous: null });
      expect(decide(secret, FIRST_MS, { served: first })).toMatchObject({ do: 'issue', previous: first });
    },
  );

  test('a key and a certificate that do not belong together are no pair', () => {
    const other = encodeSecret({ newest: second, previous: null })['tls.key'] ?? '';
    expect(decide(secretWith({ newest: first, previous: null }, { 'tls.key': other }), FIRST_MS).do).toBe('issue');
  });

  test('deleting it is a way to have a new certificate without an interruption', () => {
    expect(decide(null, FIRST_MS, { served: first })).toMatchObject({ do: 'issue', previous: first });
  });

  test('what is served is no bridge once it has ended', () => {
    expect(decide(null, FIRST_MS + 91 * DAY_MS, { served: first })).toMatchObject({ do: 'issue', previous: null });
  });

  test('a previous pair that was spoilt is done without', () => {
    const state = decodeSecret(secretWith({ newest: second, previous: first }, { 'previous.key': 'AAAA' }));
    expect(state).toEqual({ newest: second, previous: null });
  });
});

test('a certificate that has ended, or is for another name, is replaced', () => {
  const secret = secretWith({ newest: first, previous: null });
  expect(decide(secret, FIRST_MS + 90 * DAY_MS)).toMatchObject({ do: 'issue', previous: null });
  expect(decide(secret, FIRST_MS, { names: ['other.ns.svc'] })).toMatchObject({
    do: 'issue',
    reason: 'the certificate is not for other.ns.svc',
  });
});

describe('which pair is served', () => {
  const serve = (caBundle: string, nowMs: number): CertificatePair =>
    pairToServe({ newest: second, previous: first }, [caBundle], nowMs, TIMING);

  test('the only one, at once', () => {
    expect(pairToServe({ newest: first, previous: null }, [''], FIRST_MS, TIMING)).toBe(first);
  });

  test('the new one when its CA has been in the caBundle for a minute, and not before', () => {
    const both = second.ca + first.ca;
    expect(serve(both, SECOND_MS + TIMING.stageMs - 1)).toBe(first);
    expect(serve(both, SECOND_MS + TIMING.stageMs)).toBe(second);
    expect(serve(first.ca, SECOND_MS + TIMING.stageMs)).toBe(first);
  });
});
