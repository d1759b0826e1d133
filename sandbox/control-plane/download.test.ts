import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { messageOf } from '#shared/errors.ts';
import { download } from './download.ts';
import { type Home, createHome } from './testing.ts';

/** Printf hello | sha256sum */
const HELLO = {
  algorithm: 'sha256',
  digest: '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824',
} as const;
const url = 'https://example.com/hello';

let home: Home;
let target: string;

beforeEach(async () => {
  home = await createHome();
  target = path.join(home.folder, 'hello');
});

afterEach(async () => {
  vi.useRealTimers();
  await home.remove();
});

test('a file with the right sum is kept, and its progress told', async () => {
  const seen: number[][] = [];
  const fetch = async (): Promise<Response> => new Response('hello', { headers: { 'content-length': '5' } });
  await download({ url, target, checksum: HELLO, fetch, onProgress: (...progress) => seen.push(progress) });
  expect(await readFile(target, 'utf8')).toBe('hello');
  expect(seen).toEqual([[5, 5]]);
});

test('a file with another sum is refused', async () => {
  const fetch = async (): Promise<Response> => new Response('hell0');
  await expect(download({ url, target, checksum: HELLO, fetch })).rejects.toMatchObject({
    code: 'wrong-checksum',
    message: 'https://example.com/hello is not the file that it was: its sha256 sum differs',
  });
});

test('a server that refuses is named', async () => {
  const fetch = async (): Promise<Response> => new Response('', { status: 404 });
  await expect(download({ url, target, checksum: HELLO, fetch })).rejects.toMatchObject({
    code: 'download-failed',
    message: 'example.com: HTTP 404',
  });
});

test('a network that swallows packets costs 5 s', async () => {
  vi.useFakeTimers();
  const fetch = async (_: string, { signal }: { signal: AbortSignal }): Promise<Response> =>
    await new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(new Error('aborted')));
    });
  const outcome = download({ url, target, checksum: HELLO, fetch }).catch(messageOf);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(await outcome).toBe('example.com: no answer in 5 s');
});
