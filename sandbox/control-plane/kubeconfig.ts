import { stringify } from 'yaml';
import type { Certified } from './certificates.ts';

/** How a client proves who it is. */
export type Credential = Certified | { readonly token: string };

/** The text of a kubeconfig with one context. Clients check the server against `caPem`. */
export function kubeconfig(url: string, caPem: string, credential: Credential): string {
  const user =
    'token' in credential
      ? { token: credential.token }
      : {
          'client-certificate-data': base64(credential.certificate),
          'client-key-data': base64(credential.privateKey),
        };
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'sandbox', cluster: { server: url, 'certificate-authority-data': base64(caPem) } }],
    users: [{ name: 'sandbox', user }],
    contexts: [{ name: 'sandbox', context: { cluster: 'sandbox', user: 'sandbox' } }],
    'current-context': 'sandbox',
  });
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
