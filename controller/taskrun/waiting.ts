import type { HostConfig } from '#shared/host-config.ts';

/** An Event has room for 1024 characters. */
const MAX_HOSTS_NAMED = 5;

/** What is wrong with each host of `platform`; undefined where one can be used, so that waiting is only a matter of free slots. */
export function whyNoneIsUsable(
  platform: string,
  { hosts, leftOut }: Pick<HostConfig, 'hosts' | 'leftOut'>,
  problemOf: (host: string) => string | undefined,
): string | undefined {
  const listed = hosts.values().filter((host) => host.platform === platform);
  const broken = leftOut.entries().filter(([, of]) => of === platform);
  const problems: string[] = [];
  for (const name of [...listed.map((host) => host.name), ...broken.map(([host]) => host)]) {
    const problem = problemOf(name);
    if (problem === undefined) return undefined;
    problems.push(`${name}: ${problem}`);
  }
  const more = problems.length > MAX_HOSTS_NAMED ? [`and ${problems.length - MAX_HOSTS_NAMED} more`] : [];
  return [...problems.slice(0, MAX_HOSTS_NAMED), ...more].join('; ');
}
