import { generateKeyPair, randomBytes, X509Certificate, createPrivateKey } from 'node:crypto';
import { isIP } from 'node:net';
import { promisify } from 'node:util';

import forge from 'node-forge';

/** A certificate, where need be with intermediates behind it, and its key. PEM. */
export interface KeyedPem {
  certificate: string;
  privateKey: string;
}

/** The same with the CA that signed it. PEM. */
export interface CertificatePair extends KeyedPem {
  ca: string;
}

const RSA_BITS = 2048;

/**
 * Issues a CA and one serving certificate for `names` (DNS names and IP addresses). The CA's key is forgotten: it signs nothing else,
 * so that what is stored can never sign for another server (docs/decisions/0011-webhook-certificates.md).
 *
 * RSA, because node-forge makes no ECDSA certificates.
 */
export async function issuePair(options: {
  names: readonly string[];
  notBefore: Date;
  notAfter: Date;
}): Promise<CertificatePair> {
  const [ca, serving] = await Promise.all([generateRsa(), generateRsa()]);
  // Two CAs that are trusted side by side need different subjects: verifiers look an issuer up by its subject.
  const caName = [
    { name: 'commonName', value: `multi-platform-controller-webhook-ca-${randomBytes(6).toString('hex')}` },
  ];
  const servingName = [{ name: 'commonName', value: 'multi-platform-controller-webhook' }];
  const caKey = forge.pki.privateKeyFromPem(ca.privateKey);
  const caCertificate = sign({
    options,
    publicKey: ca.publicKey,
    subject: caName,
    issuer: caName,
    signer: caKey,
    extensions: [
      { name: 'basicConstraints', critical: true, cA: true, pathLenConstraint: 0 },
      { name: 'keyUsage', critical: true, keyCertSign: true },
      { name: 'subjectKeyIdentifier' },
    ],
  });
  const servingCertificate = sign({
    options,
    publicKey: serving.publicKey,
    subject: servingName,
    issuer: caName,
    signer: caKey,
    extensions: [
      { name: 'basicConstraints', critical: true, cA: false },
      { name: 'keyUsage', critical: true, digitalSignature: true, keyEncipherment: true },
      { name: 'extKeyUsage', serverAuth: true },
      { name: 'subjectKeyIdentifier' },
      { name: 'authorityKeyIdentifier', keyIdentifier: caCertificate.generateSubjectKeyIdentifier().getBytes() },
      { name: 'subjectAltName', altNames: options.names.map(altName) },
    ],
  });
  return { ca: toPem(caCertificate), certificate: toPem(servingCertificate), privateKey: serving.privateKey };
}

/** The certificates in a PEM text, in order; none where it holds none. */
export function parseCertificates(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return blocks.flatMap((block) => {
    try {
      return [new X509Certificate(block)];
    } catch {
      return [];
    }
  });
}

/** True where the first certificate in `certificate` belongs to `privateKey`. */
export function keyMatches(certificate: string, privateKey: string): boolean {
  try {
    return parseCertificates(certificate)[0]?.checkPrivateKey(createPrivateKey(privateKey)) ?? false;
  } catch {
    return false;
  }
}

/** When the certificate of `pair` ends, ms since 1970. */
export function expiresMs(pair: KeyedPem): number {
  return parseCertificates(pair.certificate)[0]?.validToDate.getTime() ?? 0;
}

export function covers(certificate: X509Certificate, name: string): boolean {
  return (isIP(name) ? certificate.checkIP(name) : certificate.checkHost(name)) !== undefined;
}

/**
 * Why a client that trusts `caBundle` would refuse a server at `name` that shows `chain` (leaf first), or null where it would not. All PEM.
 */
export function verificationProblem(options: {
  chain: string;
  caBundle: string;
  name: string;
  nowMs: number;
}): string | null {
  const [leaf, ...intermediates] = parseCertificates(options.chain);
  const roots = parseCertificates(options.caBundle);
  if (leaf === undefined) return 'there is no certificate';
  if (roots.length === 0) return 'the caBundle holds no certificate';
  if (!isCurrent(leaf, options.nowMs)) return `the certificate is valid from ${leaf.validFrom} to ${leaf.validTo}`;
  if (!covers(leaf, options.name)) return `the certificate is not for ${options.name}`;
  const current = (certificate: X509Certificate): boolean => isCurrent(certificate, options.nowMs);
  return isTrusted(leaf, intermediates.filter(current), roots.filter(current))
    ? null
    : 'the certificate was not signed by a CA in the caBundle';
}

function isTrusted(leaf: X509Certificate, intermediates: X509Certificate[], roots: X509Certificate[]): boolean {
  const signs = (child: X509Certificate) => (parent: X509Certificate) =>
    child.raw.equals(parent.raw) || (child.checkIssued(parent) && child.verify(parent.publicKey));
  if (roots.some(signs(leaf))) return true;
  const index = intermediates.findIndex(signs(leaf));
  const next = intermediates[index];
  return next !== undefined && isTrusted(next, intermediates.toSpliced(index, 1), roots);
}

function isCurrent(certificate: X509Certificate, nowMs: number): boolean {
  return certificate.validFromDate.getTime() <= nowMs && nowMs < certificate.validToDate.getTime();
}

function generateRsa(): Promise<{ publicKey: string; privateKey: string }> {
  return promisify(generateKeyPair)('rsa', {
    modulusLength: RSA_BITS,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
}

function sign(parts: {
  options: { notBefore: Date; notAfter: Date };
  publicKey: string;
  subject: forge.pki.CertificateField[];
  issuer: forge.pki.CertificateField[];
  signer: forge.pki.rsa.PrivateKey;
  extensions: object[];
}): forge.pki.Certificate {
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = forge.pki.publicKeyFromPem(parts.publicKey);
  // RFC 5280, 4.1.2.2: positive and at most 20 octets.
  certificate.serialNumber = `40${randomBytes(15).toString('hex')}`;
  certificate.validity.notBefore = parts.options.notBefore;
  certificate.validity.notAfter = parts.options.notAfter;
  certificate.setSubject(parts.subject);
  certificate.setIssuer(parts.issuer);
  certificate.setExtensions(parts.extensions);
  certificate.sign(parts.signer, forge.md.sha256.create());
  return certificate;
}

function toPem(certificate: forge.pki.Certificate): string {
  return forge.pki.certificateToPem(certificate).replaceAll('\r\n', '\n');
}

/** Types of GeneralName in RFC 5280, 4.2.1.6. */
function altName(name: string): object {
  return isIP(name) ? { type: 7, ip: name } : { type: 2, value: name };
}
