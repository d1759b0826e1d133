import { expect, test } from 'vitest';

import { parseHostConfig } from '#shared/host-config.ts';

import { whyNoneIsUsable } from './waiting.ts';

const host = (name: string, platform: string, concurrency = '4'): Record<string, string> => ({
  [`host.${name}.address`]: '10.0.0.1',
  [`host.${name}.user`]: 'root',
  [`host.${name}.platform`]: platform,
  [`host.${name}.secret`]: 'key',
  [`host.${name}.concurrency`]: concurrency,
});

const config = parseHostConfig({
  ...host('a', 'linux/arm64'),
  ...host('typo', 'linux/arm64', 'four'),
  ...host('z', 'linux/s390x'),
});

test.for<[string, Record<string, string>, string | undefined]>([
  ['linux/arm64', {}, undefined],
  ['linux/arm64', { typo: 'wrong' }, undefined],
  ['linux/arm64', { a: 'no answer' }, undefined],
  ['linux/arm64', { a: 'no answer', typo: 'wrong' }, 'a: no answer; typo: wrong'],
  ['linux/s390x', { z: 'no answer' }, 'z: no answer'],
])('%s with the problems %j: %s', ([platform, problems, expected]) => {
  expect(whyNoneIsUsable(platform, config, (name) => problems[name])).toBe(expected);
});

test('of many hosts only some are named', () => {
  const many = parseHostConfig(
    Object.fromEntries(Array.from({ length: 9 }, (_, n) => Object.entries(host(`h${n}`, 'linux/arm64'))).flat()),
  );
  expect(whyNoneIsUsable('linux/arm64', many, () => 'gone')).toMatch(/; h4: gone; and 4 more$/);
});
