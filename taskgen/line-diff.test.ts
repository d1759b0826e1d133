import fc from 'fast-check';
import { expect, test } from 'vitest';
import { lineDiff } from './line-diff.ts';

test('texts that are equal differ in nothing', () => {
  expect(lineDiff('a\n', 'a\n')).toBe('');
});

test('places far from each other are hunks of their own, with three lines around', () => {
  const before = 'a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n';
  expect(lineDiff(before, before.replace('b\n', 'B\n').replace('k\n', 'k\nl'))).toBe(
    '@@ -1,5 +1,5 @@\n a\n-b\n+B\n c\n d\n e\n@@ -9,3 +9,4 @@\n i\n j\n k\n+l\n\\ No newline at end of file\n',
  );
});

test('applied to the one text it gives the other', () => {
  const text = fc
    .array(fc.constantFrom('a', 'b', 'c', ''), { minLength: 1, maxLength: 30 })
    .map((lines) => `${lines.join('\n')}\n`);
  fc.assert(
    fc.property(text, text, (before, after) => {
      expect(apply(lineDiff(before, after), before)).toBe(after);
    }),
  );
});

/** Checks what is said of the old text on the way. */
function apply(diff: string, before: string): string {
  const old = before.split(/(?<=\n)/);
  let result = '';
  let at = 0;
  for (const hunk of diff.split(/^(?=@@)/m).filter(Boolean)) {
    const { start, count } = /^@@ -(?<start>\d+),(?<count>\d+) /.exec(hunk)?.groups ?? {};
    const lines = hunk.split(/(?<=\n)/).slice(1);
    result += old.slice(at, Number(start) - 1).join('');
    at = Number(start) - 1 + Number(count);
    expect(lines.filter((line) => !line.startsWith('+')).map((line) => line.slice(1))).toEqual(
      old.slice(Number(start) - 1, at),
    );
    result += lines
      .filter((line) => !line.startsWith('-'))
      .map((line) => line.slice(1))
      .join('');
  }
  return result + old.slice(at).join('');
}
