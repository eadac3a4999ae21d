/** Output: a file or directory that appears whole or not at all. */
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import process from 'node:process';
import { NibbleError } from '../core/errors.ts';
import { usage } from './command-line.ts';

export interface OutputOptions {
  kind: 'file' | 'directory';
  /** Whether what is there may be replaced. */
  force: boolean;
  /** What is read meanwhile: never replaced. */
  source: string;
}

/**
 * `write` gets a temporary path beside `path`; when it is done the result takes its place, and when it fails nothing is left.
 * Throws `usage` when `path` is taken, and `file_invalid` when it cannot be written.
 */
export async function writeOutput(
  path: string,
  options: OutputOptions,
  write: (temporary: string) => Promise<void>,
): Promise<void> {
  const full = resolve(path);
  await checkOutput(path, options);
  const temporary = join(dirname(full), `.${basename(full)}.${process.pid}.tmp`);
  try {
    await mkdir(options.kind === 'directory' ? temporary : dirname(full), { recursive: true });
    await write(temporary);
    if (options.kind === 'directory') await rm(full, { recursive: true, force: true });
    await rename(temporary, full);
  } catch (error) {
    // Where nothing can be written there is nothing to remove: the first failure is the one to tell.
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    const code = (error as NodeJS.ErrnoException).code;
    if (error instanceof NibbleError || code === undefined) throw error;
    throw new NibbleError({ code: 'file_invalid', file: path, tensor: null, rule: `cannot be written: ${code}` });
  }
}

/** Throws `usage` when `path` is taken, or is what is read: before long work begins. */
export async function checkOutput(path: string, { kind, force, source }: OutputOptions): Promise<void> {
  const full = resolve(path);
  const from = resolve(source);
  if (from === full || from.startsWith(full + sep)) throw usage(`OUT (${path}) is or holds the model that is read`);
  const found = await stat(full).catch(() => null);
  if (found === null) return;
  if (found.isDirectory() !== (kind === 'directory'))
    throw usage(`OUT (${path}) is a ${found.isDirectory() ? 'directory' : 'file'}; a ${kind} is to be written`);
  const names = found.isDirectory() ? await readdir(full) : ['it'];
  if (names.length === 0) return;
  if (!force) throw usage(`OUT (${path}) is there already; --force replaces it`);
  // --force replaces a model, not whatever directory a typing error names.
  if (kind === 'directory' && !names.some((name) => name === 'config.json' || name.endsWith('.safetensors')))
    throw usage(`OUT (${path}) is a directory without a model; remove it yourself or name another`);
}
