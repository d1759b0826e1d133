import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { afterEach, beforeEach, expect, test } from 'vitest';

import { issuePair } from './certificate.ts';
import { filesIn } from './certificate-files.ts';

const validity = { notBefore: new Date('2030-01-01T00:00:00Z'), notAfter: new Date('2030-01-02T00:00:00Z') };
const [first, second] = await Promise.all([
  issuePair({ names: ['a'], ...validity }),
  issuePair({ names: ['a'], ...validity }),
]);

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'webhook-files-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

async function put({ certificate, privateKey }: { certificate?: string; privateKey?: string }): Promise<void> {
  if (certificate !== undefined) await writeFile(path.join(folder, 'tls.crt'), certificate);
  if (privateKey !== undefined) await writeFile(path.join(folder, 'tls.key'), privateKey);
}

test('each read gives what is in the folder then, and leaves the caBundle to others', async () => {
  const source = filesIn(folder);
  await put(first);
  expect(await source.read([])).toEqual({
    pair: { certificate: first.certificate, privateKey: first.privateKey },
    caBundle: null,
  });
  await put(second);
  expect((await source.read([])).pair.certificate).toBe(second.certificate);
});

test('a missing file is named', async () => {
  await put({ certificate: first.certificate });
  await expect(filesIn(folder).read([])).rejects.toMatchObject({
    code: 'webhook.certificate-files',
    message: expect.stringContaining('tls.key'),
  });
});

test('files of which only one was replaced so far are refused, without a word of the key', async () => {
  await put({ certificate: first.certificate, privateKey: second.privateKey });
  const error: unknown = await filesIn(folder)
    .read([])
    .catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: 'webhook.certificate-files' });
  expect(String(error)).toContain('do not belong together');
  expect(String(error)).not.toContain('PRIVATE KEY');
});
