import { InvalidArgumentError, Option } from 'commander';
import { isPlatform, PLATFORM_HINT } from '#shared/platform.ts';
import type { SandboxHostSpec } from './sandbox.ts';

/** Hosts called after the platform's last part and a number: `arm64-1`, `arm64-2`, … */
export function hostSpecs(layout: {
  platforms: readonly string[];
  hostsPerPlatform: number;
  slots: number;
}): SandboxHostSpec[] {
  return layout.platforms.flatMap((platform) =>
    Array.from({ length: layout.hostsPerPlatform }, (_, index) => ({
      name: `${platform.split('/').at(-1)?.replaceAll('_', '-') ?? platform}-${index + 1}`,
      platform,
      slots: layout.slots,
    })),
  );
}

export function hostKindOption(): Option {
  return new Option('--host-kind <kind>', 'what hosts are made of: namespaces need root on Linux')
    .choices(['auto', 'namespace', 'container', 'imitation'])
    .default('auto');
}

/** Comma-separated, each once. */
export function parsePlatforms(text: string): string[] {
  const platforms = [...new Set(text.split(',').map((platform) => platform.trim()))];
  for (const platform of platforms) {
    if (!isPlatform(platform)) throw new InvalidArgumentError(`"${platform}" is not a platform: ${PLATFORM_HINT}.`);
  }
  const ends = new Set(platforms.map((platform) => platform.split('/').at(-1)));
  if (ends.size < platforms.length) throw new InvalidArgumentError('two of these would give hosts of the same name.');
  return platforms;
}

/** A parser for whole numbers from `min` to `max`. */
export function parseCount(min: number, max: number): (text: string) => number {
  return (text) => {
    const count = Number(text);
    if (!/^\d+$/.test(text) || count < min || count > max) {
      throw new InvalidArgumentError(`it is a whole number from ${min} to ${max}.`);
    }
    return count;
  };
}
