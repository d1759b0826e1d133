import path from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { AppError } from '#shared/errors.ts';
import { KubeClient } from '#shared/kubernetes/client.ts';
import { type Service, startService, waitUntilReady } from '../process.ts';
import type { Authority } from './certificates.ts';
import { kubeconfig } from './kubeconfig.ts';
import { apiServerArgs } from './programs.ts';

export interface ApiServerOptions {
  /** Path of the program. */
  readonly program: string;
  /** Where it runs, and where its certificates lie. */
  readonly folder: string;
  readonly authority: Authority;
  readonly auditLog: boolean;
  readonly findPort: () => Promise<number>;
}

export interface ApiServer {
  readonly url: string;
  /** The text of one for a user of the group system:masters. */
  readonly adminKubeconfig: string;
  /** Of the same user. */
  readonly client: KubeClient;
  /** Returns when the roles that Kubernetes comes with are there, too. */
  ready(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** At the same port; returns when it is ready. */
  restart(): Promise<void>;
}

const READY_WITHIN_MS = 60_000;
const ATTEMPTS = 5;
const PROBE_TIMEOUT_MS = 5_000;

const READY = '/readyz';

/** A new cluster gets its roles late, a second after all the rest; meanwhile the administrator can work. */
const SERVING = '/readyz?exclude=poststarthook/rbac/bootstrap-roles';

/**
 * Starts kube-apiserver and returns when it serves the administrator. Where somebody else took the port meanwhile it tries another.
 *
 * @throws AppError `not-ready` with the end of its log
 */
export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const admin = await options.authority.issueClient('sandbox-admin', ['system:masters']);
  for (let attempt = 1; ; attempt++) {
    const port = await options.findPort();
    const url = `https://127.0.0.1:${port}`;
    const adminKubeconfig = kubeconfig(url, options.authority.caPem, admin);
    const config = new KubeConfig();
    config.loadFromString(adminKubeconfig);
    const client = new KubeClient({ config });
    try {
      let service = await startOnce(options, port, client);
      const kill = async (): Promise<void> => await service.kill();
      const ready = async (): Promise<void> => await waitFor(READY, service, client);
      const restart = async (): Promise<void> => {
        await kill();
        service = await startOnce(options, port, client);
        await ready();
      };
      return { url, adminKubeconfig, client, ready, kill, restart };
    } catch (error) {
      client.close();
      if (attempt === ATTEMPTS || !isPortTaken(error)) throw error;
    }
  }
}

async function startOnce(options: ApiServerOptions, port: number, client: KubeClient): Promise<Service> {
  const service = await startService({
    name: 'kube-apiserver',
    command: options.program,
    args: apiServerArgs({ port, auditLog: options.auditLog }),
    cwd: options.folder,
    logPath: path.join(options.folder, 'kube-apiserver.log'),
  });
  try {
    await waitFor(SERVING, service, client);
    return service;
  } catch (error) {
    await service.kill();
    throw error;
  }
}

async function waitFor(endpoint: string, service: Service, client: KubeClient): Promise<void> {
  // Another server at this port cannot pass for ours: the client trusts our CA only.
  const probe = async (): Promise<boolean> =>
    (await client.request('GET', endpoint, { timeoutMs: PROBE_TIMEOUT_MS })) === 'ok';
  await waitUntilReady(service, { probe, timeoutMs: READY_WITHIN_MS });
}

/** The only sign that the program gives is what it prints last. */
function isPortTaken(error: unknown): boolean {
  return error instanceof AppError && error.code === 'not-ready' && error.message.includes('address already in use');
}
