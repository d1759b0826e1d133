#!/usr/bin/env node
import { hostname } from 'node:os';
import { randomUUID } from 'node:crypto';

import { InvalidArgumentError, Option } from 'commander';

import { systemClock } from '#shared/clock.ts';
import { createCommand, durationOption, parseDuration, type CommonFlags } from '#shared/flags.ts';
import { KubeClient } from '#shared/kubernetes/client.ts';
import { loadKubeConfig } from '#shared/kubernetes/config.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { createLog } from '#shared/log.ts';
import { runProcess } from '#shared/main.ts';
import { createRegistry, serveObservability } from '#shared/observability.ts';

import { startController, type ControllerSettings, type RunningController } from './controller.ts';
import { HOST_KEY_POLICIES } from './host/host-key.ts';
import { KEY_TYPES } from './host/keys.ts';
import { Leader, LEASE_NAME } from './leader.ts';
import { createMetrics } from './metrics.ts';

interface Flags extends CommonFlags {
  webhook: ControllerSettings['webhook'];
  scanInterval: number;
  hostKeyPolicy: ControllerSettings['hostKeyPolicy'];
  keyType: ControllerSettings['keyType'];
  letGoAfter: number;
  accountMaxProcesses?: number;
  accountCpuSeconds?: number;
}

const command = createCommand(
  'controller',
  'Gives each multi-platform TaskRun a host, an account and a Secret, and takes them back.',
  process.env,
)
  .addOption(
    new Option('--webhook <on|off>', 'whether the webhook marks TaskRuns; with off, all TaskRuns are watched')
      .choices(['on', 'off'])
      .default('on'),
  )
  .addOption(
    durationOption(
      '--scan-interval <duration>',
      'with the webhook on: how often to look for TaskRuns that it missed, at least 1s',
      '1m',
    ).argParser(parseScanInterval),
  )
  .addOption(
    new Option('--host-key-policy <policy>', 'what to do with a host whose key is neither pinned nor known')
      .choices(HOST_KEY_POLICIES)
      .default('trust-on-first-use'),
  )
  .addOption(
    new Option('--key-type <type>', 'type of the keys made for TaskRuns').choices(KEY_TYPES).default('ed25519'),
  )
  .addOption(
    durationOption(
      '--let-go-after <duration>',
      'how long to try to remove an account before its TaskRun is let go and the rest is owed',
      '10m',
    ),
  )
  .option('--account-max-processes <n>', 'limit of processes for each account (default: the host decides)', parseCount)
  .option(
    '--account-cpu-seconds <n>',
    'limit of CPU seconds for each process of an account (default: the host decides)',
    parseCount,
  );
const flags = command.parse().opts<Flags>();

function parseScanInterval(text: string): number {
  const ms = parseDuration(text);
  if (ms < 1000) throw new InvalidArgumentError('it is at least 1s.');
  return ms;
}

function parseCount(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('it is a whole number from 1.');
  return Number(text);
}

await runProcess(async () => {
  const log = createLog({ level: flags.logLevel });
  const clock = systemClock;
  const config = loadKubeConfig({ file: flags.kubeconfig, env: process.env });
  const registry = createRegistry();
  // A standby says so too: nobody leading must not look like nobody asking.
  const metrics = createMetrics(registry);
  const identity = `${process.env.POD_NAME ?? hostname()}_${randomUUID()}`;
  // Writes the lease and nothing else.
  const client = new KubeClient({ config, timeoutMs: 5000, beforeWrite: () => leader.checkLease() });
  // The UID of our namespace never repeats, in no cluster.
  const { metadata } = await client.get<KubeObject>(PATH.namespace(flags.namespace));
  const leader = new Leader({ client, namespace: flags.namespace, name: LEASE_NAME, identity, clock, log });
  let controller: RunningController | undefined;
  const observability = await serveObservability({
    registry,
    metricsPort: flags.metricsPort,
    healthPort: flags.healthPort,
    // A standby is ready to take over.
    notReady: () => controller?.notReady() ?? null,
  });
  log.info({ metricsPort: observability.metricsPort, healthPort: observability.healthPort, identity }, 'started');

  const lead = async (): Promise<void> => {
    const leads = await leader.acquire(() => {
      // As client-go's users do: whatever is under way must not go on beside the next leader.
      log.error('lost the lease: exits');
      process.exit(1);
    });
    if (!leads) return;
    controller = await startController({
      config,
      settings: {
        namespace: flags.namespace,
        webhook: flags.webhook,
        scanIntervalMs: flags.scanInterval,
        hostKeyPolicy: flags.hostKeyPolicy,
        keyType: flags.keyType,
        letGoAfterMs: flags.letGoAfter,
        limits: {
          ...(flags.accountMaxProcesses !== undefined && { maxProcesses: flags.accountMaxProcesses }),
          ...(flags.accountCpuSeconds !== undefined && { cpuSeconds: flags.accountCpuSeconds }),
        },
      },
      leader,
      registry,
      metrics,
      identity,
      instance: metadata.uid ?? flags.namespace,
      clock,
      log,
    });
  };
  const leading = lead();
  const stop = async (): Promise<void> => {
    await controller?.stop();
    await leader.release();
    await leading;
    await observability.close();
  };
  return { stop, failed: leading };
});
