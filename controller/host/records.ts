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

type Machine = Pick<Endpoint, 'address' | 'port'>;

/** The same machine, whoever logs in. */
export function isSameMachine(a: Machine, b: Machine): boolean {
  return a.address === b.address && a.port === b.port;
}

/** Where the host is by its entry: the keys that are pinned, else those that were trusted there before, under whatever name. */
export function endpointOf(spec: HostSpec, records: Iterable<HostRecord>): Endpoint {
  const { address, port, user, secret } = spec;
  return {
    address,
    port,
    user,
    secret,
    hostKeys: spec.hostKeys.length > 0 ? spec.hostKeys : trustedKeys(spec, records),
  };
}

function trustedKeys(machine: Machine, records: Iterable<HostRecord>): readonly string[] {
  for (const { endpoints } of records) {
    const known = endpoints.find((endpoint) => isSameMachine(endpoint, machine) && endpoint.hostKeys.length > 0);
    if (known !== undefined) return known.hostKeys;
  }
  return [];
}

/** The record with `endpoint` as the current one, in place of any other login on that machine; undefined where it is that already. */
export function withEndpoint(record: HostRecord | undefined, endpoint: Endpoint): HostRecord | undefined {
  if (record !== undefined && isEqual(record.endpoints[0], endpoint)) return undefined;
  const others = (record?.endpoints ?? []).filter((other) => !isSameMachine(other, endpoint));
  return { endpoints: [endpoint, ...others] };
}

export function isEqual(a: Endpoint | undefined, b: Endpoint | undefined): boolean {
  return JSON.stringify(a === undefined ? null : ordered(a)) === JSON.stringify(b === undefined ? null : ordered(b));
}

function ordered({ address, port, user, secret, hostKeys }: Endpoint): unknown[] {
  return [address, port, user, secret, hostKeys];
}
