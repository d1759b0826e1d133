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
  if (file === undefined && env.KUBERNETES_SERVICE_HOST && existsSync(SERVICE_ACCOUNT_TOKEN)) {
    config.loadFromCluster();
    return config;
  }
  const files = file === undefined ? listed(env) : [file];
  const present = files.filter((candidate) => existsSync(candidate));
  const source = files.join(path.delimiter);
  if (present.length === 0) {
    throw new AppError(
      'kubernetes.config',
      `no kubeconfig at ${source}: give --kubeconfig FILE, set KUBECONFIG, or run in a Pod`,
    );
  }
  for (const candidate of present) {
    const one = new KubeConfig();
    try {
      one.loadFromFile(candidate);
      config.mergeConfig(one, true);
    } catch (error) {
      throw new AppError('kubernetes.config', `${candidate} is not a kubeconfig: ${messageOf(error)}`, {
        cause: error,
      });
    }
    config.currentContext ||= one.currentContext;
  }
  if (config.getCurrentCluster() === null) {
    throw new AppError(
      'kubernetes.config',
      `${source} is not a kubeconfig with a current context that names a cluster`,
    );
  }
  return config;
}

/** A list, of which those that are there are merged (kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig). */
function listed(env: Readonly<Record<string, string | undefined>>): string[] {
  const files = (env.KUBECONFIG ?? '').split(path.delimiter).filter((file) => file !== '');
  return files.length > 0 ? files : [path.join(env.HOME ?? '', '.kube', 'config')];
}
