import { existsSync } from 'node:fs';
import path from 'node:path';

import { KubeConfig } from '@kubernetes/client-node';

import { AppError, messageOf } from '../errors.ts';

const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';

/**
 * The cluster to talk to: the file named by `--kubeconfig`, else the Pod's own ServiceAccount, else `KUBECONFIG`, else `~/.kube/config`.
 *
 * @throws AppError `kubernetes.config` where none of them is there or the file does not hold one
 */
export function loadKubeConfig(options: {
  file?: string | undefined;
  env: Readonly<Record<string, string | undefined>>;
}): KubeConfig {
  const { file, env } = options;
  const config = new KubeConfig();
  const home = path.join(env.HOME ?? '', '.kube', 'config');
  const source =
    file ??
    (env.KUBERNETES_SERVICE_HOST && existsSync(SERVICE_ACCOUNT_TOKEN) ? 'in-cluster' : (env.KUBECONFIG ?? home));
  if (source === 'in-cluster') {
    config.loadFromCluster();
    return config;
  }
  if (!existsSync(source)) {
    throw new AppError(
      'kubernetes.config',
      `no kubeconfig at ${source}: give --kubeconfig FILE, set KUBECONFIG, or run in a Pod`,
    );
  }
  try {
    config.loadFromFile(source);
  } catch (error) {
    throw new AppError('kubernetes.config', `${source} is not a kubeconfig: ${messageOf(error)}`, { cause: error });
  }
  if (config.getCurrentCluster() === null) {
    throw new AppError(
      'kubernetes.config',
      `${source} is not a kubeconfig with a current context that names a cluster`,
    );
  }
  return config;
}
