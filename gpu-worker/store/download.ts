/** Download: one file over HTTP to disk, going on where it was cut short, and only named when it is whole and right. */
import { createWriteStream } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout } from 'node:timers/promises';
import { NibbleError } from '../../core/errors.ts';

/** A connection that breaks is taken up again so many times in a row without a byte in between. */
const MAX_ATTEMPTS = 5;
const RETRY_MS = 250;

export interface Download {
  url: string;
  /** Bearer token; null: none is sent. */
  token: string | null;
  target: string;
  /** What the whole file must have. */
  bytes: number;
  /** Of the whole file: what is wrong with it, or null. */
  check(path: string): Promise<string | null>;
  /** Called as bytes arrive, with how many of the file are there. */
  onBytes(bytes: number): void;
}

/** Nothing is fetched when `target` is there with the right size. Throws `file_missing` when the server refuses, `file_invalid` when the file is wrong. */
export async function downloadFile(download: Download): Promise<void> {
  const { url, target, bytes, check, onBytes } = download;
  if ((await sizeOf(target)) === bytes) return;
  const unfinished = `${target}.unfinished`;
  for (let attempt = 1; ; ) {
    const before = await startOf(unfinished, bytes);
    if (before === bytes && (await sizeOf(unfinished)) !== null) break;
    try {
      await append(download, unfinished, before);
    } catch (error) {
      if (error instanceof NibbleError) throw error;
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOSPC' || code === 'EFBIG')
        throw new NibbleError({ code: 'file_invalid', file: target, tensor: null, rule: `cannot be written: ${code}` });
      attempt = (await startOf(unfinished, bytes)) > before ? 1 : attempt + 1;
      if (attempt > MAX_ATTEMPTS)
        throw new NibbleError({
          code: 'file_missing',
          file: url,
          reason: `the download broke off: ${(error as Error).message}`,
        });
      await setTimeout(RETRY_MS * attempt);
    }
  }
  const wrong = await check(unfinished);
  if (wrong !== null) {
    await rm(unfinished, { force: true });
    throw new NibbleError({
      code: 'file_invalid',
      file: url,
      tensor: null,
      rule: `${wrong}; it was deleted, try again`,
    });
  }
  await rename(unfinished, target);
  onBytes(bytes);
}

async function append({ url, token, bytes, onBytes }: Download, unfinished: string, start: number): Promise<void> {
  const headers = new Headers(token === null ? {} : { authorization: `Bearer ${token}` });
  if (start > 0) headers.set('range', `bytes=${start}-`);
  const response = await fetch(url, { headers });
  if (response.status >= 500 || response.status === 429) throw new Error(`the server answered ${response.status}`);
  if (!response.ok || response.body === null)
    throw new NibbleError({ code: 'file_missing', file: url, reason: `the server answered ${response.status}` });
  // A server that ignores the range sends the whole file again.
  const isRest =
    response.status === 206 && response.headers.get('content-range')?.startsWith(`bytes ${start}-`) === true;
  let at = isRest ? start : 0;
  let broken: unknown = null;
  // A connection that breaks ends what is written instead of dropping what has come but lies in buffers.
  const counted = async function* (source: AsyncIterable<Uint8Array>) {
    try {
      for await (const chunk of source) {
        at += chunk.length;
        if (at > bytes) break;
        onBytes(at);
        yield chunk;
      }
    } catch (error) {
      broken = error;
    }
  };
  await pipeline(
    Readable.fromWeb(response.body as never),
    counted,
    createWriteStream(unfinished, { flags: isRest ? 'a' : 'w' }),
  );
  if (at > bytes)
    throw new NibbleError({ code: 'file_invalid', file: url, tensor: null, rule: `has more than ${bytes} bytes` });
  if (broken !== null) throw broken;
  if (at < bytes) throw new Error(`${at} of ${bytes} bytes came`);
}

/** Bytes that are there already; 0 when there are more than there can be. */
async function startOf(path: string, bytes: number): Promise<number> {
  const size = (await sizeOf(path)) ?? 0;
  return size <= bytes ? size : 0;
}

async function sizeOf(path: string): Promise<number | null> {
  const found = await stat(path).catch(() => null);
  return found?.isFile() ? found.size : null;
}
