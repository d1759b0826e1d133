import { Command, InvalidArgumentError, Option } from 'commander';

import { LOG_LEVELS, type LogLevel } from './log.ts';
import { DEFAULT_NAMESPACE } from './names.ts';

export interface CommonFlags {
  kubeconfig?: string;
  namespace: string;
  metricsPort: number;
  healthPort: number;
  logLevel: LogLevel;
}

/** A command with the flags that both processes have; `env` gives the defaults. */
export function createCommand(
  name: string,
  description: string,
  env: Readonly<Record<string, string | undefined>>,
): Command {
  return new Command(name)
    .description(description)
    .option('--kubeconfig <file>', "cluster to talk to (default: the Pod's own, then KUBECONFIG, then ~/.kube/config)")
    .addOption(
      new Option('--namespace <name>', 'namespace of this installation')
        .default(env.POD_NAMESPACE || DEFAULT_NAMESPACE, `POD_NAMESPACE, then ${DEFAULT_NAMESPACE}`)
        .argParser(parseNamespace),
    )
    .option('--metrics-port <port>', 'port for /metrics; 0 picks a free one', parsePort, 8080)
    .option('--health-port <port>', 'port for /healthz and /readyz; 0 picks a free one', parsePort, 8081)
    .addOption(new Option('--log-level <level>', 'how much to log').choices(LOG_LEVELS).default('info'))
    .helpOption('-h, --help', 'show this help')
    .allowExcessArguments(false);
}

/** https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names */
function parseNamespace(text: string): string {
  if (!/^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/.test(text))
    throw new InvalidArgumentError('a namespace is at most 63 lower-case letters, digits and "-".');
  return text;
}

export function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new InvalidArgumentError('a port is a number from 0 to 65535.');
  return port;
}

const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
]);

/** An option that takes a duration; `initial` is its default, as a person writes it. */
export function durationOption(flags: string, description: string, initial: string): Option {
  return new Option(flags, description).argParser(parseDuration).default(parseDuration(initial), initial);
}

/** Parses a duration such as `90s`, `10m` or `2h` into milliseconds. */
export function parseDuration(text: string): number {
  const [, amount, unit = ''] = /^(\d+)(ms|s|m|h)$/.exec(text) ?? [];
  const unitMs = UNIT_MS.get(unit);
  if (unitMs === undefined) throw new InvalidArgumentError('a duration is a number and a unit: 90s, 10m or 2h.');
  return Number(amount) * unitMs;
}
