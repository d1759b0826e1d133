import { expect, test } from 'vitest';
import type { Clock } from '#shared/clock.ts';
import { createProgress } from './progress.ts';

function setUp(terminal: { isTTY?: boolean; columns?: number } = {}) {
  const written: string[] = [];
  let nowMs = 0;
  const clock: Clock = { now: () => nowMs, sleep: async () => {} };
  const progress = createProgress({ output: { write: (text) => written.push(text), ...terminal }, clock });
  return { written, progress, pass: (ms: number) => (nowMs += ms) };
}

test('a terminal shows one line that changes, cut to its width', () => {
  const { written, progress } = setUp({ isTTY: true, columns: 10 });
  progress.update('compiled 1234');
  progress.step('done');
  expect(written).toEqual(['\r\u001B[2Kcompiled ', '\r\u001B[2Kdone\n']);
});

test('elsewhere an update is printed only when nothing was for 20 s', () => {
  const { written, progress, pass } = setUp();
  progress.step('building');
  pass(19_999);
  progress.update('1');
  pass(1);
  progress.update('2');
  progress.update('3');
  pass(20_000);
  progress.update('');
  expect(written).toEqual(['building\n', '2\n']);
});
