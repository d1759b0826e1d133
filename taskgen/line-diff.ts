import { diff } from 'node:util';

const CONTEXT_LINES = 3;
const EQUAL = 0;
/** Only in the first of the two. */
const REMOVED = 1;

interface Line {
  readonly sign: ' ' | '+' | '-';
  readonly text: string;
  /** Number of the line in both texts, from 1; where it is not in one, of the next that is. */
  readonly before: number;
  readonly after: number;
}

/** What `diff -u` prints, without names of files: one hunk for each place; empty where the texts are equal. */
export function lineDiff(before: string, after: string): string {
  if (before === after) return '';
  const lines = numbered(diff(splitLines(before), splitLines(after)));
  const isNear = lines.map((_, i) =>
    lines.slice(Math.max(0, i - CONTEXT_LINES), i + CONTEXT_LINES + 1).some(({ sign }) => sign !== ' '),
  );
  const hunks: Line[][] = [];
  for (const [i, line] of lines.entries()) {
    if (isNear[i] !== true) continue;
    if (isNear[i - 1] === true) hunks.at(-1)?.push(line);
    else hunks.push([line]);
  }
  return hunks.map(formatHunk).join('');
}

function splitLines(text: string): string[] {
  return text.split(/(?<=\n)/);
}

function numbered(entries: readonly (readonly [number, string])[]): Line[] {
  let [before, after] = [1, 1];
  return entries.map(([operation, text]) => {
    const sign = operation === EQUAL ? ' ' : operation === REMOVED ? '-' : '+';
    const line: Line = { sign, text, before, after };
    if (sign !== '+') before++;
    if (sign !== '-') after++;
    return line;
  });
}

function formatHunk(lines: readonly Line[]): string {
  const [first] = lines;
  const count = (sign: string): number => lines.filter((line) => line.sign !== sign).length;
  const body = lines.map(
    ({ sign, text }) => sign + (text.endsWith('\n') ? text : `${text}\n\\ No newline at end of file\n`),
  );
  return `@@ -${first?.before},${count('+')} +${first?.after},${count('-')} @@\n${body.join('')}`;
}
