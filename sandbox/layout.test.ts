import { describe, expect, it } from 'vitest';
import { hostSpecs, parseCount, parsePlatforms } from './layout.ts';

describe('the layout of a sandbox', () => {
  it('names hosts after their platform', () => {
    const specs = hostSpecs({ platforms: ['linux/arm64', 'linux/x86_64'], hostsPerPlatform: 2, slots: 3 });
    expect(specs.map(({ name, platform, slots }) => `${name} ${platform} ${slots}`)).toEqual([
      'arm64-1 linux/arm64 3',
      'arm64-2 linux/arm64 3',
      'x86-64-1 linux/x86_64 3',
      'x86-64-2 linux/x86_64 3',
    ]);
  });

  it('takes each platform once', () => {
    expect(parsePlatforms('linux/arm64, linux/s390x,linux/arm64')).toEqual(['linux/arm64', 'linux/s390x']);
  });

  it.each(['', 'arm64', 'linux/ARM', 'linux/arm64,darwin/arm64'])('refuses the platforms "%s"', (text) => {
    expect(() => parsePlatforms(text)).toThrow(/platform|same name/);
  });

  it.each(['0', '5', '-1', '1.5', 'x', ''])('refuses the count "%s"', (text) => {
    expect(() => parseCount(1, 4)(text)).toThrow(/from 1 to 4/);
  });

  it('takes a count within its bounds', () => {
    expect(['1', '4'].map(parseCount(1, 4))).toEqual([1, 4]);
  });
});
