import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AppError, messageOf } from '#shared/errors.ts';

/** A closed network often swallows packets instead of refusing them; nobody should wait for that. */
const ANSWER_WITHIN_MS = 5_000;

/** A slow network is fine, one that stands still is not. */
const MOVES_WITHIN_MS = 30_000;

export type Fetch = (url: string, options: { signal: AbortSignal }) => Promise<Response>;

/** The sum of one file, in hexadecimal digits. */
export interface Checksum {
  readonly algorithm: 'sha256' | 'sha512';
  readonly digest: string;
}

export interface Download {
  readonly url: string;
  /** The file to write. */
  readonly target: string;
  readonly checksum: Checksum;
  readonly fetch: Fetch;
  /** `totalBytes` is 0 where the server does not say. */
  readonly onProgress?: (bytes: number, totalBytes: number) => void;
}

/**
 * Writes `url` to `target`. What lies there after an error is not to be used.
 *
 * @throws AppError `download-failed`, or `wrong-checksum`
 */
export async function download({ url, target, checksum, fetch, onProgress }: Download): Promise<void> {
  const watchdog = new AbortController();
  const { host } = new URL(url);
  let timer = setTimeout(() => watchdog.abort(new Error('no answer in 5 s')), ANSWER_WITHIN_MS);
  const hash = createHash(checksum.algorithm);
  try {
    const response = await fetch(url, { signal: watchdog.signal });
    if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}`);
    const totalBytes = Number(response.headers.get('content-length') ?? 0);
    let bytes = 0;
    const count = async function* (chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
      for await (const chunk of chunks) {
        clearTimeout(timer);
        timer = setTimeout(() => watchdog.abort(new Error('nothing came for 30 s')), MOVES_WITHIN_MS);
        hash.update(chunk);
        bytes += chunk.length;
        onProgress?.(bytes, totalBytes);
        yield chunk;
      }
    };
    await pipeline(Readable.fromWeb(response.body), count, createWriteStream(target), { signal: watchdog.signal });
  } catch (cause) {
    const reason: unknown = watchdog.signal.aborted ? watchdog.signal.reason : cause;
    throw new AppError('download-failed', `${host}: ${reasonOf(reason)}`, { cause });
  } finally {
    clearTimeout(timer);
  }
  if (hash.digest('hex') !== checksum.digest) {
    throw new AppError('wrong-checksum', `${url} is not the file that it was: its ${checksum.algorithm} sum differs`);
  }
}

/** `fetch` says only "fetch failed" and keeps the reason underneath. */
function reasonOf(error: unknown): string {
  return error instanceof Error && error.cause instanceof Error ? messageOf(error.cause) : messageOf(error);
}
