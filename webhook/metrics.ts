import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

import { METRICS_PREFIX } from '#shared/names.ts';
import type { Outcome } from './mutate.ts';

/** `refused`: answered with 4xx; `failed`: with 5xx. */
export type RequestOutcome = Outcome | 'refused' | 'failed';

export interface WebhookMetrics {
  answered(outcome: RequestOutcome, seconds: number): void;
  /** When the certificate that is served ends, ms since 1970. */
  certificateExpires(atMs: number): void;
}

export function createWebhookMetrics(registry: Registry): WebhookMetrics {
  const requests = new Counter({
    name: `${METRICS_PREFIX}webhook_requests_total`,
    help: 'Requests to the webhook by outcome',
    labelNames: ['outcome'],
    registers: [registry],
  });
  const seconds = new Histogram({
    name: `${METRICS_PREFIX}webhook_request_seconds`,
    help: 'Time from the headers of a request to its answer',
    buckets: [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 3],
    registers: [registry],
  });
  const expiry = new Gauge({
    name: `${METRICS_PREFIX}webhook_certificate_expiry_timestamp_seconds`,
    help: 'When the certificate that is served ends, in seconds since 1970',
    registers: [registry],
  });
  for (const outcome of ['marked', 'malformed', 'skipped', 'refused', 'failed']) requests.inc({ outcome }, 0);
  return {
    answered(outcome, took) {
      requests.inc({ outcome });
      seconds.observe(took);
    },
    certificateExpires: (atMs) => expiry.set(atMs / 1000),
  };
}
