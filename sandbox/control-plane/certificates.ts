import { generateKeyPair, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import forge from 'node-forge';

/** PEM. */
export interface KeyPair {
  readonly publicKey: string;
  readonly privateKey: string;
}

/** PEM. */
export interface Certified {
  readonly certificate: string;
  readonly privateKey: string;
}

/** Signs the control plane's certificates. Its key stays in memory. */
export interface Authority {
  readonly caPem: string;
  /** For a server at 127.0.0.1 only. */
  issueServer(): Promise<Certified>;
  /** Kubernetes reads the user from the common name and the groups from the organizations (Authenticating, "X.509 client certificates"). */
  issueClient(user: string, groups: readonly string[]): Promise<Certified>;
}

/** No sandbox lives longer; the hour before is for clocks that differ. */
const VALID_DAYS = 30;
const HOUR_MS = 3_600_000;

/** RSA, because node-forge signs with nothing else. */
export function generateRsa(): Promise<KeyPair> {
  return promisify(generateKeyPair)('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
}

export async function createAuthority(now: Date): Promise<Authority> {
  const keys = await generateRsa();
  const signer = forge.pki.privateKeyFromPem(keys.privateKey);
  // A name of its own, so that certificates of two control planes are never taken for each other's.
  const issuer = [field('commonName', `sandbox-ca-${randomBytes(6).toString('hex')}`)];
  const sign = (publicKey: string, subject: forge.pki.CertificateField[], extensions: object[]): string => {
    const certificate = forge.pki.createCertificate();
    certificate.publicKey = forge.pki.publicKeyFromPem(publicKey);
    // RFC 5280, 4.1.2.2: a positive number of at most 20 octets.
    certificate.serialNumber = `40${randomBytes(15).toString('hex')}`;
    certificate.validity.notBefore = new Date(now.getTime() - HOUR_MS);
    certificate.validity.notAfter = new Date(now.getTime() + VALID_DAYS * 24 * HOUR_MS);
    certificate.setSubject(subject);
    certificate.setIssuer(issuer);
    certificate.setExtensions(extensions);
    certificate.sign(signer, forge.md.sha256.create());
    return forge.pki.certificateToPem(certificate).replaceAll('\r\n', '\n');
  };
  const issue = async (subject: forge.pki.CertificateField[], extensions: object[]): Promise<Certified> => {
    const { publicKey, privateKey } = await generateRsa();
    const usage = { name: 'keyUsage', critical: true, digitalSignature: true, keyEncipherment: true };
    return { certificate: sign(publicKey, subject, [usage, ...extensions]), privateKey };
  };
  return {
    caPem: sign(keys.publicKey, issuer, [
      { name: 'basicConstraints', critical: true, cA: true },
      { name: 'keyUsage', critical: true, keyCertSign: true },
    ]),
    issueServer: async () =>
      await issue(
        [field('commonName', 'kube-apiserver')],
        [
          { name: 'extKeyUsage', serverAuth: true },
          { name: 'subjectAltName', altNames: [{ type: 7, ip: '127.0.0.1' }] },
        ],
      ),
    issueClient: async (user, groups) =>
      await issue(
        [field('commonName', user), ...groups.map((group) => field('organizationName', group))],
        [{ name: 'extKeyUsage', clientAuth: true }],
      ),
  };
}

/** UTF-8, because a name with `_` or `@` is no PrintableString and Go refuses it as one. */
function field(name: string, value: string): forge.pki.CertificateField {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the types have an enum of their own for this number
  return { name, value, valueTagClass: forge.asn1.Type.UTF8 as unknown as forge.asn1.Class };
}
