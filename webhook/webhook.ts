import type { Registry } from 'prom-client';

import type { Clock } from '#shared/clock.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { Logger } from '#shared/log.ts';
import { serveObservability } from '#shared/observability.ts';
import { filesIn } from './certificate-files.ts';
import type { CertificateTiming } from './certificate-secret.ts';
import { expiresMs } from './certificate.ts';
import { CertificateKeeper } from './keeper.ts';
import { createWebhookMetrics } from './metrics.ts';
import { selfSigned } from './self-signed.ts';
import { createWebhookServer } from './server.ts';

export interface WebhookOptions {
  client: KubeClient;
  registry: Registry;
  /** 0 picks a free port. */
  ports: { webhook: number; metrics: number; health: number };
  configurationName: string;
  /** Our own, kept in a Secret; or one that somebody else puts into a folder. */
  certificate: { secret: { namespace: string; name: string }; timing?: CertificateTiming } | { folder: string };
  /** How long to go on answering, not ready, before the server closes: until no endpoint points here any more. */
  drainMs: number;
  clock: Clock;
  log: Logger;
}

export interface Webhook {
  ports: { webhook: number; metrics: number; health: number };
  /** Why it should not be called now, or null. */
  notReady(): string | null;
  /** Turns not ready, drains, finishes what is in flight, and stops. */
  stop(): Promise<void>;
}

/** Starts the whole process: the HTTPS server, the keeping of its certificate, and the ports for health and metrics. */
export async function startWebhook(options: WebhookOptions): Promise<Webhook> {
  const { client, registry, ports, configurationName, certificate, clock, log } = options;
  let stopping = false;
  const metrics = createWebhookMetrics(registry);
  const server = createWebhookServer({ metrics, log });
  const keeper = new CertificateKeeper({
    client,
    configurationName,
    source:
      'folder' in certificate
        ? filesIn(certificate.folder)
        : selfSigned({
            client,
            namespace: certificate.secret.namespace,
            secretName: certificate.secret.name,
            clock,
            log,
            ...(certificate.timing && { timing: certificate.timing }),
          }),
    serve: (pair) => {
      server.serve(pair);
      metrics.certificateExpires(expiresMs(pair));
    },
    clock,
    log,
  });
  const notReady = (): string | null => (stopping ? 'stopping' : keeper.notReady());
  const observability = await serveObservability({
    registry,
    metricsPort: ports.metrics,
    healthPort: ports.health,
    notReady,
  });
  const port = await server.listen(ports.webhook).catch(async (error: unknown) => {
    await observability.close();
    throw error;
  });
  keeper.start();
  log.info({ port, configuration: configurationName }, 'listening');
  return {
    ports: { webhook: port, metrics: observability.metricsPort, health: observability.healthPort },
    notReady,
    async stop() {
      stopping = true;
      log.info('stopping');
      server.drain();
      await clock.sleep(options.drainMs);
      await server.close();
      await keeper.stop();
      await observability.close();
    },
  };
}
