import { expect, test } from 'vitest';

import { createLog, redact } from './log.ts';

const PEM = '-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----';

function logged(write: (log: ReturnType<typeof createLog>) => void): string[] {
  const lines: string[] = [];
  write(createLog({ level: 'info', destination: { write: (line) => lines.push(line) } }));
  return lines;
}

test.each([
  ['a private key', PEM],
  ['a private key as JSON escapes it', JSON.stringify(PEM)],
  ['a private key in base64', Buffer.from(PEM).toString('base64')],
  ['a bearer token', 'Authorization: Bearer abcdefgh.12345678'],
  ['a ServiceAccount token', `eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl`],
])('%s is redacted wherever it stands in a line', (_what, secret) => {
  const lines = logged((log) => log.info({ deep: { value: `before ${secret} after` } }, `text ${secret}`));
  expect(lines).toHaveLength(1);
  expect(lines[0]).not.toContain('b3BlbnNzaC1rZXktdjEAAAAA');
  expect(lines[0]).not.toContain(secret);
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({ level: 'info' });
});

test('a private key that was cut off takes its line with it, and the line stays JSON', () => {
  const [line] = logged((log) => log.info(PEM.slice(0, 60)));
  expect(JSON.parse(line ?? '')).toMatchObject({ level: 'warn' });
  expect(line).not.toContain('b3Blb');
});

test('a line without secrets is left as it is', () => {
  expect(redact('TaskRun a/b got host arm-1')).toBe('TaskRun a/b got host arm-1');
});

test('an error is logged as its message and code, without a stack trace', () => {
  const [line] = logged((log) => log.error({ err: Object.assign(new Error('refused'), { code: 'E1' }) }, 'failed'));
  expect(JSON.parse(line ?? '')).toMatchObject({
    level: 'error',
    msg: 'failed',
    err: { message: 'refused', code: 'E1' },
  });
  expect(line).not.toContain('stack');
});
