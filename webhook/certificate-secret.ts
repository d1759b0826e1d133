import type { Secret } from '#shared/kubernetes/objects.ts';
import {
  covers,
  expiresMs,
  keyMatches,
  parseCertificates,
  verificationProblem,
  type CertificatePair,
} from './certificate.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** How a certificate ages. All in ms. */
export interface CertificateTiming {
  validityMs: number;
  /** A new certificate is issued when less than this is left. */
  renewBeforeMs: number;
  /** How long a new CA is in the caBundle before its certificate is served: every API server must have seen it. */
  stageMs: number;
  /** How long after the new certificate was issued the previous CA leaves the caBundle. */
  retireMs: number;
  /** `notBefore` lies this far back: clocks differ. */
  backdateMs: number;
}

export const CERTIFICATE_TIMING: CertificateTiming = {
  validityMs: 90 * DAY_MS,
  renewBeforeMs: 30 * DAY_MS,
  stageMs: 60_000,
  retireMs: HOUR_MS,
  backdateMs: HOUR_MS,
};

/** What the Secret holds. `previous` is there while a new certificate takes over from an old one. */
export interface CertificateState {
  newest: CertificatePair;
  previous: CertificatePair | null;
}

export type CertificateDecision =
  | { do: 'keep'; state: CertificateState }
  /** Issue a new pair; serve `previous` until it is staged, where there is one. */
  | { do: 'issue'; previous: CertificatePair | null; reason: string }
  | { do: 'write'; state: CertificateState; reason: string };

const KEY = {
  ca: 'ca.crt',
  newest: { certificate: 'tls.crt', privateKey: 'tls.key' },
  previous: { certificate: 'previous.crt', privateKey: 'previous.key' },
} as const;

/**
 * What to do about the Secret as it is now. `served` is what this replica serves at the moment: where the Secret is gone or spoilt, it
 * bridges the time until the new CA is trusted.
 */
export function decideCertificate(options: {
  secret: Secret | null;
  served: CertificatePair | null;
  names: readonly string[];
  nowMs: number;
  timing: CertificateTiming;
}): CertificateDecision {
  const { secret, served, names, nowMs, timing } = options;
  const usable = (pair: CertificatePair | null): CertificatePair | null =>
    pair !== null && pairProblem(pair, names, nowMs) === null ? pair : null;
  if (secret === null) return { do: 'issue', previous: usable(served), reason: 'the Secret does not exist' };
  const state = decodeSecret(secret);
  const problem = state === null ? 'the Secret holds no certificate' : pairProblem(state.newest, names, nowMs);
  if (state === null || problem !== null) {
    return { do: 'issue', previous: usable(served) ?? usable(state?.previous ?? null), reason: problem ?? '' };
  }
  if (expiresMs(state.newest) - nowMs < timing.renewBeforeMs) {
    return { do: 'issue', previous: state.newest, reason: 'the certificate is near its end' };
  }
  if (state.previous === null) return { do: 'keep', state };
  const retired = nowMs >= issuedMs(state.newest, timing) + timing.retireMs;
  if (!retired && usable(state.previous) !== null) return { do: 'keep', state };
  return { do: 'write', state: { ...state, previous: null }, reason: 'the previous certificate has served its time' };
}

/** The pair to serve: the previous one until the newest is trusted everywhere. `caBundles` are those in the configuration, PEM. */
export function pairToServe(
  state: CertificateState,
  caBundles: readonly string[],
  nowMs: number,
  timing: CertificateTiming,
): CertificatePair {
  if (state.previous === null) return state.newest;
  const staged =
    nowMs >= issuedMs(state.newest, timing) + timing.stageMs &&
    caBundles.every((bundle) => holds(bundle, state.newest.ca));
  return staged ? state.newest : state.previous;
}

/** True where the CA is one of those in the bundle. Both PEM. */
export function holds(bundle: string, ca: string): boolean {
  const [wanted] = parseCertificates(ca);
  return wanted !== undefined && parseCertificates(bundle).some((certificate) => certificate.raw.equals(wanted.raw));
}

/** The `caBundle` for a state, PEM. */
export function caBundleOf(state: CertificateState): string {
  return state.newest.ca + (state.previous?.ca ?? '');
}

export function encodeSecret(state: CertificateState): Record<string, string> {
  const data: Record<string, string> = {
    [KEY.ca]: caBundleOf(state),
    [KEY.newest.certificate]: state.newest.certificate,
    [KEY.newest.privateKey]: state.newest.privateKey,
  };
  if (state.previous !== null) {
    data[KEY.previous.certificate] = state.previous.certificate;
    data[KEY.previous.privateKey] = state.previous.privateKey;
  }
  return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]));
}

/** Null where the newest pair is not there as a whole. */
export function decodeSecret(secret: Secret): CertificateState | null {
  const text = (key: string): string => Buffer.from(secret.data?.[key] ?? '', 'base64').toString();
  const cas = parseCertificates(text(KEY.ca));
  const pair = (keys: { certificate: string; privateKey: string }): CertificatePair | null => {
    const certificate = text(keys.certificate);
    const privateKey = text(keys.privateKey);
    const [leaf] = parseCertificates(certificate);
    const ca = cas.find((candidate) => leaf?.checkIssued(candidate) && leaf.verify(candidate.publicKey));
    return ca !== undefined && keyMatches(certificate, privateKey)
      ? { ca: ca.toString(), certificate, privateKey }
      : null;
  };
  const newest = pair(KEY.newest);
  return newest && { newest, previous: pair(KEY.previous) };
}

/** When a pair was issued, ms since 1970: the certificate itself is the record. */
function issuedMs(pair: CertificatePair, timing: CertificateTiming): number {
  return (parseCertificates(pair.certificate)[0]?.validFromDate.getTime() ?? 0) + timing.backdateMs;
}

function pairProblem(pair: CertificatePair, names: readonly string[], nowMs: number): string | null {
  const [leaf] = parseCertificates(pair.certificate);
  if (leaf === undefined) return 'the Secret holds no certificate';
  const missing = names.find((name) => !covers(leaf, name));
  if (missing !== undefined) return `the certificate is not for ${missing}`;
  return verificationProblem({ chain: pair.certificate, caBundle: pair.ca, name: names[0] ?? '', nowMs });
}
