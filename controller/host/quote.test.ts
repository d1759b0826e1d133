import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quote } from './quote.ts';

const SHELLS = ['/bin/sh', '/bin/bash', '/bin/dash'].filter((shell) => existsSync(shell));

const HOSTILE = [
  '',
  "'",
  "''",
  `'; touch /tmp/owned; '`,
  '$(id)',
  '`id`',
  '${HOME}',
  '\\',
  "\\'",
  '"; id; "',
  'a\nid\n',
  '\n',
  '-n',
  '!!',
  '~root',
  '*',
  'ünïcödé 漢字 🙂',
  '\u001b[31m',
  '\r\n',
  "'".repeat(253),
];

/** Texts made of what shells care about, and any other text. NUL is refused elsewhere; half a surrogate pair is no text. */
const text = fc.oneof(
  fc.string({ unit: fc.constantFrom(...'\'"\\$`(){}[];&|<>*?~#! \t\n\r-=%a'.split('')) }),
  fc.string({ unit: 'binary' }).map((value) => value.replaceAll('\0', '')),
);

/** What the shell makes of the words, each ended by a NUL. */
function words(shell: string, script: string): string[] {
  const { stdout, stderr, status } = spawnSync(shell, ['-s'], { input: script, encoding: 'utf8' });
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  return stdout.split('\0').slice(0, -1);
}

describe.each(SHELLS)('a quoted text, read by %s', (shell) => {
  it('is one word with the same text', () => {
    const script = `printf '%s\\0' ${HOSTILE.map(quote).join(' ')}`;
    expect(words(shell, script)).toEqual(HOSTILE);
  });

  it('is assigned to a variable unchanged', () => {
    const lines = HOSTILE.map((value, i) => `v${i}=${quote(value)}`);
    const uses = HOSTILE.map((_, i) => `"$v${i}"`).join(' ');
    expect(words(shell, `${lines.join('\n')}\nprintf '%s\\0' ${uses}`)).toEqual(HOSTILE);
  });

  it('is one word with the same text, whatever it is', () => {
    fc.assert(
      fc.property(fc.array(text, { minLength: 1, maxLength: 50 }), (values) => {
        expect(words(shell, `printf '%s\\0' ${values.map(quote).join(' ')}`)).toEqual(values);
      }),
      { numRuns: 60 },
    );
  });
});

it('refuses a NUL', () => {
  expect(() => quote('a\0b')).toThrow(expect.objectContaining({ code: 'quote.nul' }));
});
