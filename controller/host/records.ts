import { z } from 'zod';

import type { HostSpec } from '#shared/host-config.ts';

import type { Endpoint } from './contract.ts';

/** Name of the ConfigMap with one {@link HostRecord} per host name. */
export const RECORDS_NAME = 'multi-platform-host-records';

const endpointSchema = z.object({
  address: z.string(),
  port: z.number().int(),
  user: z.string(),
  secret: z.string(),
  hostKeys: z.array(z.string()),
});

const recordSchema = z.object({ endpoints: z.array(endpointSchema).min(1) });

/**
 * What is needed to reach a host again, whatever becomes of its entry in `host-config`: where it is now, first, and where it was
 * before, as long as a TaskRun or a debt may refer to that.
 */
export interface HostRecord {
  readonly endpoints: readonly Endpoint[];
}

export function parseRecord(value: unknown): HostRecord {
  return recordSchema.parse(value);
}

/** Two endpoints with the same id are the same account on the same machine. */
export function endpointId(endpoint: Pick<Endpoint, 'address' | 'port' | 'user'>): string {
  return `${endpoint.user}@${endpoint.address}:${endpoint.port}`;
}

/** The same machine, whoever logs in. */
export function isSameMachine(a: Endpoint, b: Endpoint): boolean {
  return a.address === b.address && a.port === b.port;
}

/** Where the host is by its entry: the keys that are pinned, else those that were trusted there before. */
export function endpointOf(spec: HostSpec, record: HostRecord | undefined): Endpoint {
  const { address, port, user, secret } = spec;
  const known = record?.endpoints.find((endpoint) => endpoint.address === address && endpoint.port === port);
  return { address, port, user, secret, hostKeys: spec.hostKeys.length > 0 ? spec.hostKeys : (known?.hostKeys ?? []) };
}

/** The record with `endpoint` as the current one; undefined where it is that already. */
export function withEndpoint(record: HostRecord | undefined, endpoint: Endpoint): HostRecord | undefined {
  if (record !== undefined && isEqual(record.endpoints[0], endpoint)) return undefined;
  const others = (record?.endpoints ?? []).filter((other) => endpointId(other) !== endpointId(endpoint));
  return { endpoints: [endpoint, ...others] };
}

export function isEqual(a: Endpoint | undefined, b: Endpoint | undefined): boolean {
  return JSON.stringify(a === undefined ? null : ordered(a)) === JSON.stringify(b === undefined ? null : ordered(b));
}

function ordered({ address, port, user, secret, hostKeys }: Endpoint): unknown[] {
  return [address, port, user, secret, hostKeys];
}
