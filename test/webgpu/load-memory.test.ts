/** Weights stream to the device: beside them the host holds no more than twice the checkpoint's largest tensor while they load. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import type { LoadMemory } from '../../bench/load-memory.ts';
import { type RandomLayout, type RandomShape, writeRandomModel } from '../../bench/random-model.ts';
import './gpu-under-test.ts';

const PROGRAM = join(import.meta.dirname, '..', '..', 'bench', 'load-memory.ts');

/** A plain matrix of 128 MiB. */
const LARGE_TABLE: RandomShape = {
  hidden: 1024,
  layers: 2,
  intermediate: 2816,
  heads: 16,
  kvHeads: 4,
  vocab: 65_536,
};
const LARGE_LINEARS: RandomShape = { ...LARGE_TABLE, layers: 1, intermediate: 65_536, vocab: 1024 };
/** Of 192 MiB. Node, Dawn and the driver take up to 100 MB to load whatever it is, most where gates and ups of this size are joined. */
const LARGER_LINEARS: RandomShape = { ...LARGE_LINEARS, intermediate: 98_304 };

interface Case {
  what: string;
  shape: RandomShape;
  layout: RandomLayout;
  args: readonly string[];
}

const F16: RandomLayout = { linears: 'f16', head: 'tied', files: 1 };
const CASES: readonly Case[] = [
  { what: 'f16 in one file, tied head', shape: LARGE_TABLE, layout: F16, args: [] },
  {
    what: 'GPTQ int4 in three files, own head',
    shape: LARGE_TABLE,
    layout: { linears: 'gptq', head: 'own', files: 3 },
    args: [],
  },
  { what: 'gate, up and down larger than the embedding', shape: LARGER_LINEARS, layout: F16, args: [] },
  {
    what: 'these quantized to NF4 on load',
    shape: LARGE_LINEARS,
    layout: F16,
    args: ['--quantize', 'bitsandbytes-nf4'],
  },
];

/** V8's young generation grows while the device is waited for, up to 100 MB that say nothing of tensors: it is held at 6 MB. */
const NODE_FLAGS = ['--max-semi-space-size=2'];

test.skipIf(process.platform !== 'linux').each(CASES)('$what', async ({ shape, layout, args }) => {
  const directory = await mkdtemp(join(tmpdir(), 'nibble-load-memory-'));
  try {
    await writeRandomModel(directory, shape, 1, layout);
    // As `nibble` starts its program: freed tensors go back to the system.
    const env = { ...process.env, MALLOC_MMAP_THRESHOLD_: String(1 << 20) };
    const command = [...NODE_FLAGS, PROGRAM, '--model-id', directory, ...args];
    const { stdout } = await promisify(execFile)(process.execPath, command, { env });
    const { largestTensor, peakHostBytes } = JSON.parse(stdout) as LoadMemory;
    expect(largestTensor.bytes).toBe(2 * 1024 * Math.max(shape.vocab, shape.intermediate));
    const isQuantized = args.length > 0;
    // The tensor itself was there, or what is made of it: what is measured is not nothing.
    expect(peakHostBytes / largestTensor.bytes).toBeGreaterThan(isQuantized ? 0.25 : 1);
    expect(peakHostBytes / largestTensor.bytes).toBeLessThan(2);
  } finally {
    await rm(directory, { recursive: true });
  }
});
