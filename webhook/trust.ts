import type { KeyedPem } from './certificate.ts';
import { verificationProblem } from './certificate.ts';
import { serverNameOf, type MutatingWebhookConfiguration } from './registration.ts';

/** What the API server goes by when it calls us, as the configuration says it now: the name it expects and the CAs (PEM) it trusts. */
export interface Trust {
  name: string;
  caBundle: string;
}

export function trustOf(configuration: MutatingWebhookConfiguration): Trust[] {
  return (configuration.webhooks ?? []).map(({ clientConfig }) => ({
    name: serverNameOf(clientConfig),
    caBundle: Buffer.from(clientConfig.caBundle ?? '', 'base64').toString(),
  }));
}

/** Why an API server would refuse `pair` now, or null. */
export function trustProblem(trusts: readonly Trust[], pair: KeyedPem, nowMs: number): string | null {
  if (trusts.length === 0) return 'the configuration names no webhook';
  for (const { name, caBundle } of trusts) {
    const problem = verificationProblem({ chain: pair.certificate, caBundle, name, nowMs });
    if (problem !== null) return problem;
  }
  return null;
}

/**
 * A JSON Patch that puts `caBundle` (PEM) where it is not; empty where all is well. It touches nothing else, so that it cannot undo what
 * somebody else changes at the same time; the `test` operations make it fail where the list has moved.
 */
export function caBundlePatch(configuration: MutatingWebhookConfiguration, caBundle: string): object[] {
  const value = Buffer.from(caBundle).toString('base64');
  return (configuration.webhooks ?? []).flatMap(({ name, clientConfig }, index) =>
    clientConfig.caBundle === value
      ? []
      : [
          { op: 'test', path: `/webhooks/${index}/name`, value: name },
          { op: 'add', path: `/webhooks/${index}/clientConfig/caBundle`, value },
        ],
  );
}
