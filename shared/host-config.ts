import { isIP } from 'node:net';

import { LOCAL_PLATFORMS_KEY } from './names.ts';
import { isPlatform, PLATFORM_HINT, platformLabel } from './platform.ts';

/** A build host as an administrator listed it. */
export interface HostSpec {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly user: string;
  readonly platform: string;
  /** Name of the Secret, in our namespace, that holds the admin's private key. */
  readonly secret: string;
  /** How many TaskRuns may run on it at the same time; 0 drains it. */
  readonly concurrency: number;
  /** Public keys the host may show, each `type base64`; empty where none is pinned. */
  readonly hostKeys: readonly string[];
}

export interface ConfigProblem {
  /** The ConfigMap's key that is wrong, or the host that lacks one (`host.NAME`). */
  readonly key: string;
  /** What is wrong and what would be right; one line. */
  readonly message: string;
  /** False for what we only warn of: everything else in the entry is used. */
  readonly fatal: boolean;
}

export interface HostConfig {
  readonly hosts: ReadonlyMap<string, HostSpec>;
  /** Entries that are wrong, by the host's name, with their platform where that is well-formed: they are not gone, and get nothing. */
  readonly leftOut: ReadonlyMap<string, string | undefined>;
  readonly localPlatforms: ReadonlySet<string>;
  /** Milliseconds a TaskRun may wait for a host, by platform label; the key `''` is for all others. */
  readonly waitTimeoutMs: ReadonlyMap<string, number>;
  readonly problems: readonly ConfigProblem[];
}

const PROPERTIES = ['address', 'port', 'user', 'platform', 'secret', 'concurrency', 'host-key'] as const;
type Property = (typeof PROPERTIES)[number];
const REQUIRED: readonly Property[] = ['address', 'user', 'platform', 'secret', 'concurrency'];

const DEFAULT_SSH_PORT = '22';
const MAX_CONCURRENCY = 1000;

/** A label value (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/): the name is written on TaskRuns. */
export const HOST_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;
/** RFC 1123, as a whole at most 253 characters. */
const DNS_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?$/;
/** useradd(8): no more than 32 characters; capitals are in use on hosts that somebody else manages. */
const USER_NAME = /^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/;
const OBJECT_NAME = /^(?=.{1,253}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;
const HOST_KEY = /^(ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521))\s+([A-Za-z0-9+/]{40,}={0,2})(?:\s.*)?$/;
const DURATION = /^(\d{1,6})(s|m|h)$/;

/** Families of keys of the Go implementation that a later release will read. */
const LATER = /^(?:dynamic|additional-instance-tags$|instance-tag$|multi-platform-controller-)/;

const WAIT_TIMEOUT = /^wait-timeout(?:\.(.+))?$/;

/** Parses the data of the ConfigMap `host-config`. It never throws: an entry that is wrong is left out and listed in `problems`. */
export function parseHostConfig(data: Readonly<Record<string, string>>): HostConfig {
  const problems: ConfigProblem[] = [];
  const report = (key: string, message: string, fatal = true): void => {
    problems.push({ key, message, fatal });
  };
  const raw = new Map<string, Map<string, string>>();
  const localPlatforms = new Set<string>();
  const waitTimeoutMs = new Map<string, number>();

  for (const [key, text] of Object.entries(data).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const value = text.trim();
    const waitTimeout = WAIT_TIMEOUT.exec(key);
    if (key.startsWith('host.')) {
      const dot = key.lastIndexOf('.');
      const name = key.slice('host.'.length, Math.max(dot, 'host.'.length));
      const property = key.slice(dot + 1);
      if (dot < 'host.'.length || name === '') {
        report(key, `"${key}" is not a host's key: it looks like "host.NAME.address"`);
        continue;
      }
      let properties = raw.get(name);
      if (properties === undefined) raw.set(name, (properties = new Map()));
      properties.set(property, value);
    } else if (key === LOCAL_PLATFORMS_KEY) {
      for (const platform of value.split(/[\s,]+/).filter((part) => part !== '')) {
        if (isPlatform(platform)) localPlatforms.add(platform);
        else report(key, `${quoted(platform)} is not a platform: ${PLATFORM_HINT}`);
      }
    } else if (waitTimeout !== null) {
      const ms = parseDurationMs(value);
      if (ms === null) report(key, `${quoted(value)} is not a duration: write a number and s, m or h, say "30m"`);
      else waitTimeoutMs.set(waitTimeout[1] ?? '', ms);
    } else if (LATER.test(key)) {
      report(key, `"${key}" is not supported by this release: it is ignored`, false);
    } else {
      report(key, `"${key}" is not a key that this release knows: it is ignored`, false);
    }
  }

  const hosts = new Map<string, HostSpec>();
  const leftOut = new Map<string, string | undefined>();
  for (const [name, properties] of raw) {
    const spec = parseHost(name, properties, report);
    const platform = properties.get('platform') ?? '';
    if (spec !== null) hosts.set(name, spec);
    else if (HOST_NAME.test(name)) leftOut.set(name, isPlatform(platform) ? platform : undefined);
  }
  reportTwins(hosts.values(), report);
  return { hosts, leftOut, localPlatforms, waitTimeoutMs, problems };
}

/** The same for entries that are one machine, whoever logs in. */
export function machineId({ address, port }: Pick<HostSpec, 'address' | 'port'>): string {
  return `${address} ${port}`;
}

/** True where the ConfigMap as a whole holds nothing that can be used, though somebody meant it to. */
export function isUnusable(config: HostConfig): boolean {
  return config.hosts.size === 0 && config.localPlatforms.size === 0 && config.problems.length > 0;
}

/** How long a TaskRun may wait for a host of `platform`; undefined: as long as it takes. */
export function waitTimeoutOf(config: HostConfig, platform: string): number | undefined {
  return config.waitTimeoutMs.get(platformLabel(platform)) ?? config.waitTimeoutMs.get('');
}

type Report = (key: string, message: string, fatal?: boolean) => void;

function parseHost(name: string, properties: ReadonlyMap<string, string>, report: Report): HostSpec | null {
  let good = true;
  const refuse = (property: string, message: string): void => {
    good = false;
    report(`host.${name}.${property}`, message);
  };
  const check = (property: Property, accepts: (value: string) => boolean, rule: string): string => {
    const value = properties.get(property) ?? (property === 'port' ? DEFAULT_SSH_PORT : undefined);
    if (value === undefined) return '';
    if (!accepts(value)) refuse(property, `${quoted(value)} is not ${rule}`);
    return value;
  };

  if (!HOST_NAME.test(name)) {
    report(
      `host.${name}`,
      'a host\'s name is at most 63 letters, digits, "-", "_" and ".", and begins and ends with a letter or digit',
    );
    return null;
  }
  const missing = REQUIRED.filter((property) => !properties.has(property));
  if (missing.length > 0) {
    good = false;
    report(`host.${name}`, `host ${name} lacks ${missing.map((property) => `"host.${name}.${property}"`).join(', ')}`);
  }
  for (const property of properties.keys()) {
    if (!PROPERTIES.some((known) => known === property)) {
      report(
        `host.${name}.${property}`,
        `"${property}" is not a property of a host: it is ignored; known are ${PROPERTIES.join(', ')}`,
        false,
      );
    }
  }
  const address = check(
    'address',
    (value) => isIP(value) !== 0 || isDnsName(value),
    'an IPv4 address, an IPv6 address (without brackets) or a DNS name',
  );
  const port = check('port', (value) => isInteger(value, 1, 65_535), 'a port: a whole number from 1 to 65535');
  const user = check(
    'user',
    (value) => USER_NAME.test(value),
    'the name of an account: at most 32 letters, digits, "_", "-" and "."',
  );
  const platform = check('platform', isPlatform, `a platform: ${PLATFORM_HINT}`);
  const secret = check('secret', (value) => OBJECT_NAME.test(value), "a Secret's name");
  const concurrency = check(
    'concurrency',
    (value) => isInteger(value, 0, MAX_CONCURRENCY),
    `a whole number from 0 (drained) to ${MAX_CONCURRENCY}`,
  );
  const hostKeys: string[] = [];
  for (const line of (properties.get('host-key') ?? '').split('\n').filter((part) => part.trim() !== '')) {
    const key = HOST_KEY.exec(line.trim());
    if (key === null)
      refuse('host-key', 'a host key looks like a line of /etc/ssh/ssh_host_ed25519_key.pub: "ssh-ed25519 AAAA…"');
    else hostKeys.push(`${key[1]} ${key[2]}`);
  }
  if (!good) return null;
  return { name, address, port: Number(port), user, platform, secret, concurrency: Number(concurrency), hostKeys };
}

/** It may be meant, with two platforms of one machine; it may be an entry that was copied. */
function reportTwins(hosts: Iterable<HostSpec>, report: Report): void {
  const names = new Map<string, string>();
  for (const { name, address, port } of hosts) {
    const machine = machineId({ address, port });
    const twin = names.get(machine);
    if (twin === undefined) names.set(machine, name);
    else {
      const message = `hosts "${twin}" and "${name}" are the same machine: it gets as many TaskRuns as both may have together`;
      report(`host.${name}.address`, message, false);
    }
  }
}

function isInteger(value: string, min: number, max: number): boolean {
  return /^\d{1,6}$/.test(value) && Number(value) >= min && Number(value) <= max;
}

/** Four numbers with dots are meant to be an IPv4 address, and `isIP` has refused them already. */
function isDnsName(value: string): boolean {
  return DNS_NAME.test(value) && !/^[\d.]+$/.test(value);
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000 };

function parseDurationMs(value: string): number | null {
  const match = DURATION.exec(value);
  return match === null ? null : Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 0);
}

/** A value of somebody else's, short enough and on one line. */
function quoted(value: string): string {
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
}
