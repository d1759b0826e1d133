import { expect, test } from 'vitest';
import { aborted, orAborted } from './interrupt.ts';

test('work that ends before it is interrupted gives its result', async () => {
  const { signal } = new AbortController();
  expect(await orAborted(Promise.resolve('done'), signal)).toBe('done');
  expect(await orAborted(Promise.resolve('done'), undefined)).toBe('done');
  await expect(orAborted(Promise.reject(new Error('own')), signal)).rejects.toThrow('own');
});

test('work that is interrupted fails with the reason, at once and however late it is asked', async () => {
  const controller = new AbortController();
  const never = new Promise<string>(() => {});
  const waiting = orAborted(never, controller.signal);
  controller.abort(new Error('interrupted'));
  await expect(waiting).rejects.toThrow('interrupted');
  await expect(orAborted(never, controller.signal)).rejects.toThrow('interrupted');
  await aborted(controller.signal);
});
