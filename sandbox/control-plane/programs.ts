/** What the two programs are started with. Paths are relative to the run folder, where both run. */

const ETCD_SOCKET = 'etcd.sock';

/** Files that the API server reads or writes in the run folder. */
export const FILE = {
  auditLog: 'audit.log',
  auditPolicy: 'audit-policy.yaml',
  ca: 'ca.crt',
  etcdSocket: ETCD_SOCKET,
  serviceAccountKey: 'service-account.key',
  tlsCertificate: 'tls.crt',
  tlsKey: 'tls.key',
} as const;

/**
 * Sockets instead of ports: nothing to collide with, and nobody else on this machine can read the Secrets in it, as etcd
 * asks nobody who they are.
 */
export const ETCD_ARGS: readonly string[] = [
  '--data-dir=etcd',
  `--listen-client-urls=unix://${ETCD_SOCKET}`,
  `--advertise-client-urls=unix://${ETCD_SOCKET}`,
  '--listen-peer-urls=unix://etcd-peer.sock',
  '--unsafe-no-fsync',
];

/** Who did what to which object; not the objects themselves, which may be Secrets. */
export const AUDIT_POLICY = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
`;

export function apiServerArgs({ port, auditLog }: { port: number; auditLog: boolean }): string[] {
  return [
    `--etcd-servers=unix://${ETCD_SOCKET}`,
    '--bind-address=127.0.0.1',
    `--secure-port=${port}`,
    // It would look for a default route, and a machine need not have one; nothing here reads the Endpoints that it writes.
    '--advertise-address=127.0.0.1',
    '--endpoint-reconciler-type=none',
    `--tls-cert-file=${FILE.tlsCertificate}`,
    `--tls-private-key-file=${FILE.tlsKey}`,
    `--client-ca-file=${FILE.ca}`,
    '--authorization-mode=RBAC',
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${FILE.serviceAccountKey}`,
    `--service-account-signing-key-file=${FILE.serviceAccountKey}`,
    '--service-cluster-ip-range=10.0.0.0/24',
    // Nothing here makes the `default` ServiceAccount of a namespace, without which no Pod would be let in.
    '--disable-admission-plugins=ServiceAccount',
    ...(auditLog
      ? [
          `--audit-policy-file=${FILE.auditPolicy}`,
          `--audit-log-path=${FILE.auditLog}`,
          // In MB. At its default of 100 the file is rotated, and a reader would miss the first half.
          '--audit-log-maxsize=100000',
        ]
      : []),
  ];
}
