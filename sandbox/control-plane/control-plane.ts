import { access, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { startService, waitUntilReady } from '../process.ts';
import type { Progress } from '../progress.ts';
import { createRunFolder, removeStaleRunFolders } from '../run-folder.ts';
import { startApiServer } from './api-server.ts';
import type { ControlPlaneAssets } from './binaries.ts';
import { type Authority, createAuthority, generateRsa } from './certificates.ts';
import { installCrds } from './crds.ts';
import { freePort } from './free-port.ts';
import { kubeconfig } from './kubeconfig.ts';
import { AUDIT_POLICY, ETCD_ARGS, FILE } from './programs.ts';

export interface ControlPlaneOptions {
  readonly assets: ControlPlaneAssets;
  readonly progress: Progress;
  /** Has each request written to {@link ControlPlane.auditLogPath}. */
  readonly auditLog?: boolean;
  /** Names a port that should be free. */
  readonly findPort?: () => Promise<number>;
}

/** Who a kubeconfig is for: any user, or whoever a token belongs to. */
export type Identity = { readonly user: string; readonly groups?: readonly string[] } | { readonly token: string };

/** An etcd and a kube-apiserver that are up, with Tekton's resources in place. */
export interface ControlPlane {
  /** `https://127.0.0.1:PORT` */
  readonly url: string;
  /** The certificate that the server's is signed by. */
  readonly caPem: string;
  /** For a user who may do everything (group system:masters). */
  readonly kubeconfigPath: string;
  /** Of the same user. */
  readonly client: KubeClient;
  /** JSON lines, each an audit.k8s.io/v1 `Event` of level Metadata; undefined where none was asked for. */
  readonly auditLogPath: string | undefined;
  /** Writes a kubeconfig and gives its path. */
  kubeconfigFor(identity: Identity): Promise<string>;
  /** SIGKILL. What is stored stays. */
  killApiServer(): Promise<void>;
  /** At the same address; ends it first where it runs. */
  restartApiServer(): Promise<void>;
  /** Ends both programs and removes all that they wrote. May be called again. */
  stop(): Promise<void>;
}

const ETCD_READY_WITHIN_MS = 30_000;

/**
 * Takes some 4 s. Who is interrupted meanwhile should wait for it and then stop it. Where this process is killed, both programs
 * go with it and the next control plane removes the folder.
 *
 * @throws AppError `not-ready` with the end of the log of the program that failed
 */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { assets, progress, auditLog = false, findPort = freePort } = options;
  const startMs = performance.now();
  progress.update('control plane: starting');
  await removeStaleRunFolders({ kind: 'control-plane' });
  const folder = await createRunFolder('control-plane');
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(async () => await rm(folder, { recursive: true, force: true }));

  const etcd = await startService({
    name: 'etcd',
    command: assets.etcd,
    args: ETCD_ARGS,
    cwd: folder,
    logPath: path.join(folder, 'etcd.log'),
  });
  // All that it knows is thrown away, so there is nothing to end gently.
  cleanup.defer(async () => await etcd.kill());
  const hasSocket = async (): Promise<boolean> => await isThere(path.join(folder, FILE.etcdSocket));
  const [authority] = await Promise.all([
    prepareFiles(folder),
    waitUntilReady(etcd, { probe: hasSocket, timeoutMs: ETCD_READY_WITHIN_MS }),
  ]);

  const apiServer = await startApiServer({ program: assets.kubeApiServer, folder, authority, auditLog, findPort });
  const { url, client } = apiServer;
  cleanup.defer(async () => await apiServer.kill());
  cleanup.defer(() => client.close());
  progress.update('control plane: installing the resource definitions');
  await installCrds(client, assets.crds);
  await apiServer.ready();

  let kubeconfigs = 0;
  const writeKubeconfig = async (text: string): Promise<string> => {
    const file = path.join(folder, `kubeconfig-${kubeconfigs++}.yaml`);
    await writeFile(file, text, { mode: 0o600 });
    return file;
  };
  const kubeconfigPath = await writeKubeconfig(apiServer.adminKubeconfig);
  progress.step(`control plane ready at ${url} in ${((performance.now() - startMs) / 1_000).toFixed(1)} s`);

  const resources = cleanup.move();
  let stopping: Promise<void> | undefined;
  return {
    url,
    caPem: authority.caPem,
    kubeconfigPath,
    client,
    auditLogPath: auditLog ? path.join(folder, FILE.auditLog) : undefined,
    kubeconfigFor: async (identity) => {
      const credential =
        'token' in identity ? identity : await authority.issueClient(identity.user, identity.groups ?? []);
      return await writeKubeconfig(kubeconfig(url, authority.caPem, credential));
    },
    killApiServer: async () => await apiServer.kill(),
    restartApiServer: async () => await apiServer.restart(),
    stop: async () => await (stopping ??= resources.disposeAsync()),
  };
}

async function prepareFiles(folder: string): Promise<Authority> {
  const [authority, serviceAccountKeys] = await Promise.all([createAuthority(new Date()), generateRsa()]);
  const server = await authority.issueServer();
  const contents: Readonly<Record<string, string>> = {
    [FILE.auditPolicy]: AUDIT_POLICY,
    [FILE.ca]: authority.caPem,
    [FILE.serviceAccountKey]: serviceAccountKeys.privateKey,
    [FILE.tlsCertificate]: server.certificate,
    [FILE.tlsKey]: server.privateKey,
  };
  const write = async ([name, content]: [string, string]): Promise<void> =>
    await writeFile(path.join(folder, name), content, { mode: 0o600 });
  await Promise.all(Object.entries(contents).map(write));
  return authority;
}

async function isThere(file: string): Promise<boolean> {
  return await access(file).then(
    () => true,
    () => false,
  );
}
