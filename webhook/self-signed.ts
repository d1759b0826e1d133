import type { Clock } from '#shared/clock.ts';
import { AppError, messageOf } from '#shared/errors.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound, isConflict, isForbidden, isInvalid } from '#shared/kubernetes/errors.ts';
import type { Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import type { Logger } from '#shared/log.ts';
import { issuePair, type CertificatePair } from './certificate.ts';
import {
  caBundleOf,
  CERTIFICATE_TIMING,
  decideCertificate,
  encodeSecret,
  holds,
  pairToServe,
  type CertificateState,
  type CertificateTiming,
} from './certificate-secret.ts';
import type { CertificateSource } from './keeper.ts';
import type { Trust } from './trust.ts';

export interface SelfSignedOptions {
  client: KubeClient;
  namespace: string;
  secretName: string;
  clock: Clock;
  log: Logger;
  timing?: CertificateTiming;
}

/** Others write the Secret too: each lost race is read and decided anew. */
const MAX_ATTEMPTS = 10;

/**
 * Certificates of our own making, in one Secret that all replicas share. Whoever writes first wins; the others take what is there.
 *
 * Where the Secret may not be written, `read` gives what is good still, so that it is served and in the `caBundle`; it rejects where
 * there is nothing.
 */
export function selfSigned(options: SelfSignedOptions): CertificateSource {
  const { client, namespace, secretName, clock, log, timing = CERTIFICATE_TIMING } = options;
  let serving: CertificatePair | null = null;
  let settled: CertificateState | null = null;

  async function settle(trusts: readonly Trust[]): Promise<CertificateState> {
    const names = [...new Set(trusts.map(({ name }) => name))];
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      const secret = await ignoreNotFound(client.get<Secret>(PATH.secrets(namespace, secretName)));
      const decision = decideCertificate({ secret, served: serving, names, nowMs: clock.now(), timing });
      if (decision.do === 'keep') return decision.state;
      const bridge = decision.do === 'issue' ? decision.previous : null;
      // To make another takes half a second: first what is served is to be trusted. That is a change, and so a reason to read again.
      if (bridge !== null && trusts.some(({ caBundle }) => !holds(caBundle, bridge.ca))) return stateOf(bridge);
      const state =
        decision.do === 'write' ? decision.state : { newest: await issue(names), previous: decision.previous };
      try {
        await write(secret, state);
        log.info({ secret: secretName, reason: decision.reason }, 'wrote the certificate Secret');
        return state;
      } catch (error) {
        if (isConflict(error)) continue;
        if (bridge === null || !(isForbidden(error) || isInvalid(error))) throw error;
        const fields = { secret: secretName, reason: decision.reason, err: error };
        log.error(
          fields,
          `the certificate Secret cannot be written, so none follows the one in use: ${messageOf(error)}`,
        );
        return stateOf(bridge);
      }
    }
    throw new AppError('webhook.certificate-contended', `Secret ${secretName} is changed by others all the time`);
  }

  /** The other replicas serve one of the two as well. */
  function stateOf(pair: CertificatePair): CertificateState {
    const isOfLast = [settled?.newest, settled?.previous].some((last) => last?.certificate === pair.certificate);
    return settled !== null && isOfLast ? settled : { newest: pair, previous: null };
  }

  function issue(names: readonly string[]): Promise<CertificatePair> {
    const nowMs = clock.now();
    return issuePair({
      names,
      notBefore: new Date(nowMs - timing.backdateMs),
      notAfter: new Date(nowMs + timing.validityMs),
    });
  }

  function write(secret: Secret | null, state: CertificateState): Promise<Secret> {
    const data = encodeSecret(state);
    if (secret !== null) return client.replace(PATH.secrets(namespace, secretName), { ...secret, data });
    return client.create<Secret>(PATH.secrets(namespace), {
      apiVersion: 'v1',
      kind: 'Secret',
      type: 'Opaque',
      metadata: { name: secretName, namespace },
      data,
    });
  }

  return {
    watched: [{ path: PATH.secrets(namespace), name: secretName }],
    async read(trusts) {
      const state = await settle(trusts);
      settled = state;
      const caBundles = trusts.map(({ caBundle }) => caBundle);
      serving = pairToServe(state, caBundles, clock.now(), timing);
      return { pair: serving, caBundle: caBundleOf(state) };
    },
  };
}
