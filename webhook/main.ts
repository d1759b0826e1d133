import { Option } from 'commander';

import { systemClock } from '#shared/clock.ts';
import { createCommand, durationOption, parsePort, type CommonFlags } from '#shared/flags.ts';
import { KubeClient } from '#shared/kubernetes/client.ts';
import { loadKubeConfig } from '#shared/kubernetes/config.ts';
import { createLog } from '#shared/log.ts';
import { runProcess } from '#shared/main.ts';
import { createRegistry } from '#shared/observability.ts';
import { CONFIGURATION_NAME } from './registration.ts';
import { startWebhook } from './webhook.ts';

interface Flags extends CommonFlags {
  port: number;
  configurationName: string;
  certificate: 'self' | 'files';
  certificateSecret: string;
  certificateDir: string;
  drain: number;
}

const command = createCommand('webhook', 'Marks TaskRuns that need a build host of another platform.', process.env)
  .option('--port <port>', 'port for the API server to call; 0 picks a free one', parsePort, 9443)
  .option('--configuration-name <name>', 'MutatingWebhookConfiguration that registers us', CONFIGURATION_NAME)
  .addOption(
    new Option(
      '--certificate <source>',
      'self: made, renewed and registered by us; files: taken from --certificate-dir',
    )
      .choices(['self', 'files'])
      .default('self'),
  )
  .option(
    '--certificate-secret <name>',
    'Secret in --namespace that keeps our certificate (with --certificate self)',
    'multi-platform-controller-webhook-certificate',
  )
  .option('--certificate-dir <folder>', 'folder with tls.crt and tls.key, read again when they change', '/certificate')
  .addOption(durationOption('--drain <duration>', 'how long to go on answering after a signal to stop', '5s'))
  .parse();

await runProcess(() => {
  const flags = command.opts<Flags>();
  const log = createLog({ level: flags.logLevel });
  const client = new KubeClient({
    config: loadKubeConfig({ file: flags.kubeconfig, env: process.env }),
    userAgent: 'multi-platform-controller/webhook',
  });
  return startWebhook({
    client,
    registry: createRegistry(),
    ports: { webhook: flags.port, metrics: flags.metricsPort, health: flags.healthPort },
    configurationName: flags.configurationName,
    certificate:
      flags.certificate === 'self'
        ? { secret: { namespace: flags.namespace, name: flags.certificateSecret } }
        : { folder: flags.certificateDir },
    drainMs: flags.drain,
    clock: systemClock,
    log,
  });
});
