import { AppError } from '#shared/errors.ts';

const UNIT_MS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

/**
 * A duration as Go and Tekton write it, such as `1h30m` or `2.5s`, in milliseconds. `0` is 0.
 *
 * @throws AppError `bad-duration`
 */
export function parseGoDuration(text: string): number {
  if (text === '0') return 0;
  if (!/^(?:\d+(?:\.\d+)?(?:h|ms|m|s))+$/.test(text)) throw new AppError('bad-duration', `"${text}" is not a duration`);
  let ms = 0;
  for (const [, amount, unit = ''] of text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s)/g))
    ms += Number(amount) * (UNIT_MS[unit] ?? 0);
  return ms;
}
