/** Files on this disk. */
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openLocalModel } from '../../../gpu-worker/store/local.ts';

/** More than Node reads at once; as Gemma 3 27B's embedding. */
const TENSOR_BYTES = 2 ** 31 + 4096;

test.skipIf(freemem() < 2 * TENSOR_BYTES)('a tensor of more than 2 GiB is read whole', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'nibble-local-'));
  try {
    const path = join(directory, 'large');
    // All zeros, and nothing of them on the disk, but for its first and last bytes.
    await writeFile(path, Uint8Array.of(7));
    await truncate(path, TENSOR_BYTES - 1);
    await writeFile(path, Uint8Array.of(9), { flag: 'a' });
    const model = await openLocalModel(directory);
    const bytes = await (await model.open('large'))!.read(0, TENSOR_BYTES);
    expect([bytes.length, bytes[0], bytes[TENSOR_BYTES - 1]]).toEqual([TENSOR_BYTES, 7, 9]);
    await model.close();
  } finally {
    await rm(directory, { recursive: true });
  }
});
