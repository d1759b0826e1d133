#!/usr/bin/env node
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { Command, Option } from 'commander';

import { systemClock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import { KubeClient } from '#shared/kubernetes/client.ts';
import { loadKubeConfig } from '#shared/kubernetes/config.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { createLog, LOG_LEVELS, type LogLevel } from '#shared/log.ts';
import { DEFAULT_NAMESPACE } from '#shared/names.ts';

import { HOST_KEY_POLICIES, type HostKeyPolicy } from './host/host-key.ts';
import { createHostOperations } from './host/host.ts';
import { KeySource } from './key-source.ts';
import { LEASE_NAME } from './leader.ts';
import { giveLeaseBack, withdraw } from './withdraw.ts';

const POLICY_BINDINGS = '/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings';

/** The chart's Job may take 270 s. */
const HOSTS_WITHIN_MS = 150_000;
const GIVE_UP_AFTER_MS = 230_000;
const RETRY_MS = 2000;

interface Flags {
  kubeconfig?: string;
  namespace: string;
  webhookConfiguration?: string;
  policyBinding?: string;
  hostKeyPolicy: HostKeyPolicy;
  logLevel: LogLevel;
}

const flags = new Command('uninstall')
  .description(
    'Takes an installation back before it is removed: removes all its accounts from hosts, ends marking, lets all TaskRuns go. ' +
      'Builds that run on hosts end.',
  )
  .option('--kubeconfig <file>', "cluster to talk to (default: the Pod's own, then KUBECONFIG, then ~/.kube/config)")
  .option('--namespace <name>', 'namespace of the installation', process.env.POD_NAMESPACE ?? DEFAULT_NAMESPACE)
  .option('--webhook-configuration <name>', 'MutatingWebhookConfiguration to delete')
  .option('--policy-binding <name>', 'MutatingAdmissionPolicyBinding to delete')
  .addOption(
    new Option('--host-key-policy <policy>', 'what to do with a host whose key is neither pinned nor known')
      .choices(HOST_KEY_POLICIES)
      .default('trust-on-first-use'),
  )
  .addOption(new Option('--log-level <level>', 'how much to log').choices(LOG_LEVELS).default('info'))
  .helpOption('-h, --help', 'show this help')
  .allowExcessArguments(false)
  .parse()
  .opts<Flags>();

const log = createLog({ level: flags.logLevel });
const clock = systemClock;
const { namespace } = flags;
const client = new KubeClient({
  config: loadKubeConfig({ file: flags.kubeconfig, env: process.env }),
  userAgent: 'multi-platform-controller/uninstall',
});
const { metadata } = await client.get<KubeObject>(PATH.namespace(namespace));
const keys = new KeySource({ client, namespace, onChange: () => {}, clock, log });
await keys.start();
const options = {
  client,
  namespace,
  leaseName: LEASE_NAME,
  identity: `uninstall_${randomUUID()}`,
  marking: [
    ...(flags.webhookConfiguration === undefined
      ? []
      : [PATH.mutatingWebhookConfigurations(flags.webhookConfiguration)]),
    ...(flags.policyBinding === undefined ? [] : [`${POLICY_BINDINGS}/${encodeURIComponent(flags.policyBinding)}`]),
  ],
  hostsWithinMs: HOSTS_WITHIN_MS,
  clock,
  log,
};
async function giveUp(why: string): Promise<never> {
  await giveLeaseBack(options).catch((problem: unknown) => log.warn({ err: problem }, 'the lease stays held'));
  process.stderr.write(`${why}\n`);
  process.exit(1);
}
// Otherwise nobody would lead until the lease ends by itself.
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void giveUp(`ended by ${signal}`));

const deadlineMs = clock.now() + GIVE_UP_AFTER_MS;
for (;;) {
  try {
    const { hostsLeft } = await withdraw({
      ...options,
      connect: (endpoint) =>
        createHostOperations({
          endpoint,
          adminKey: () => keys.get(endpoint.secret),
          policy: flags.hostKeyPolicy,
          instance: metadata.uid ?? namespace,
          onFirstKey: async () => {},
          clock,
          log,
        }),
    });
    if (hostsLeft.length > 0) {
      log.warn(
        { hosts: hostsLeft },
        `accounts may be left on ${hostsLeft.join(', ')}: their keys expire by themselves; docs/operations.md says how to remove them`,
      );
    }
    process.exit(0);
  } catch (error) {
    log.warn({ err: error }, `will be tried again: ${messageOf(error)}`);
    if (clock.now() < deadlineMs) {
      await sleep(RETRY_MS);
      continue;
    }
    await giveUp(messageOf(error));
  }
}
