/** DiskSpace: whether a quantization fits on OUT's disk, and what is said when it did not. */
import type { StatsFs } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { NibbleError } from '../../core/errors.ts';

export interface SpaceNeeded {
  /** Of the model's tensors. */
  modelBytes: number;
  /** Of the calibration data. */
  tokens: number;
  hidden: number;
}

/** Before hours of work: OUT at most as large as the model, its layers and two copies of the hidden states in the journal. Throws `file_invalid`. */
export async function checkSpace(out: string, { modelBytes, tokens, hidden }: SpaceNeeded): Promise<void> {
  const needed = 2 * modelBytes + 2 * tokens * hidden * 4;
  const found = await diskOf(dirname(resolve(out)));
  if (found === null) return;
  const free = found.bavail * found.bsize;
  if (free < needed)
    throw new NibbleError({
      code: 'file_invalid',
      file: out,
      tensor: null,
      rule: `may need ${needed} bytes while it is made; ${free} are free on its disk`,
    });
}

/** Of the first directory above that is there: the others are yet to be made. */
async function diskOf(directory: string): Promise<StatsFs | null> {
  const found = await statfs(directory).catch(() => null);
  if (found !== null || dirname(directory) === directory) return found;
  return diskOf(dirname(directory));
}

/** A disk that fills up all the same: the journal stays, and the same command goes on from it. Other errors come back as they are. */
export function asSpace(error: unknown, out: string): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  if (error instanceof NibbleError || typeof code !== 'string' || !/^E[A-Z0-9]+$/.test(code)) return error;
  const isFull = ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code);
  return new NibbleError({
    code: 'file_invalid',
    file: out,
    tensor: null,
    rule: `what is finished cannot be written beside it: ${code}${isFull ? '; the same command goes on from the last finished layer' : ''}`,
  });
}
