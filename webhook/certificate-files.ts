import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { AppError, messageOf } from '#shared/errors.ts';
import { keyMatches } from './certificate.ts';
import type { CertificateSource } from './keeper.ts';

/**
 * `tls.crt` and `tls.key` in `folder`, as cert-manager and other issuers mount them. Who issues them also sees to the `caBundle`.
 *
 * `read` rejects with AppError `webhook.certificate-files` where they are missing or do not belong together, as they may for a moment
 * while they are being replaced: then what is served stays.
 */
export function filesIn(folder: string): CertificateSource {
  return {
    watched: [],
    async read() {
      const [certificate, privateKey] = await Promise.all(['tls.crt', 'tls.key'].map((name) => readText(folder, name)));
      if (certificate === undefined || privateKey === undefined || !keyMatches(certificate, privateKey)) {
        throw new AppError('webhook.certificate-files', `tls.crt and tls.key in ${folder} do not belong together`);
      }
      return { pair: { certificate, privateKey }, caBundle: null };
    },
  };
}

async function readText(folder: string, name: string): Promise<string> {
  try {
    return await readFile(path.join(folder, name), 'utf8');
  } catch (error) {
    throw new AppError('webhook.certificate-files', `cannot read the certificate: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
