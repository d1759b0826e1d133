import { describe, expect, it } from 'vitest';
import { CREATE_ANSWER, REMOVE_ANSWER, readAnswer } from './answer.ts';
import { type Endpoint, HOST_ERROR } from './contract.ts';
import { classify } from './failures.ts';

const ENDPOINT: Endpoint = { address: '192.0.2.7', port: 22, user: 'builder', secret: 's', hostKeys: [] };
const UNREADABLE = { code: HOST_ERROR.failed, mayHaveActed: true };

describe('an answer', () => {
  it('is what the script says', () => {
    expect(readAnswer(CREATE_ANSWER, { ok: true, home: '/home/u' }, ENDPOINT)).toEqual({ ok: true, home: '/home/u' });
  });

  it.each([
    undefined,
    null,
    'ok',
    {},
    { ok: false },
    { ok: true },
    { ok: true, home: 1 },
    { ok: true, home: 'u' },
    { error: 'x', text: '', left: false },
  ])('that says nothing that we understand is a failure: %j', (answer) => {
    expect(() => readAnswer(CREATE_ANSWER, answer, ENDPOINT)).toThrow(expect.objectContaining(UNREADABLE));
  });

  it.each([
    ['not-root', 'user id 1000', HOST_ERROR.noSudo, 'the admin "builder" is not root: user id 1000'],
    ['missing-command', 'useradd', HOST_ERROR.missingCommand, 'the command "useradd" is not there on the host'],
    ['foreign-account', 'u-1', HOST_ERROR.foreignAccount, 'an account is there that is not ours to touch: u-1'],
    ['busy', 'u-1', HOST_ERROR.busy, 'something else is still being done to u-1 on the host'],
    ['left', 'process 7 (x)', HOST_ERROR.left, 'not everything could be removed: process 7 (x)'],
    [
      'left',
      '/home/u (Read-only file system)',
      HOST_ERROR.left,
      'not everything could be removed (a file system of the host is read-only): /home/u (Read-only file system)',
    ],
    ['failed', 'No space left on device', HOST_ERROR.diskFull, 'the disk of the host is full: No space left on device'],
    ['failed', 'oops', HOST_ERROR.failed, 'a command failed on the host: oops'],
  ])('says why the script failed: %s, %s', (error, text, code, message) => {
    for (const left of [true, false]) {
      const mayHaveActed = error === 'busy' || (left && error !== 'foreign-account');
      expect(() => readAnswer(REMOVE_ANSWER, { error, text, left }, ENDPOINT)).toThrow(
        expect.objectContaining({ code, message, mayHaveActed }),
      );
    }
  });
});

it.each([
  ['mkdir: cannot create directory: Disk quota exceeded', HOST_ERROR.diskFull],
  ['head: write error: No space left on device', HOST_ERROR.diskFull],
  ['sh: 1: cannot create /etc/x: Read-only file system', HOST_ERROR.readOnly],
  ['useradd: cannot lock /etc/passwd; try again later.', HOST_ERROR.failed],
])('"%s" is told apart', (text, code) => {
  expect(classify(text).code).toBe(code);
});
