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
/** The same of gate, up and down. */
const LARGE_LINEARS: RandomShape = { ...LARGE_TABLE, layers: 1, intermediate: 65_536, vocab: 1024 };
const LARGEST_BYTES = 128 << 20;

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
  { what: 'gate, up and down larger than the embedding', shape: LARGE_LINEARS, layout: F16, args: [] },
  {
    what: 'these quantized to NF4 on load',
    shape: LARGE_LINEARS,
    layout: F16,
    args: ['--quantize', 'bitsandbytes-nf4'],
  },
];

/**
 * Waiting for the device makes garbage in V8's heap, which would grow by 100 MB and more before it is collected, and says nothing of
 * tensors: their bytes lie outside. So the heap is held small.
 */
const NODE_FLAGS = ['--max-semi-space-size=2', '--max-old-space-size=64'];

test.skipIf(process.platform !== 'linux').each(CASES)('$what', async ({ shape, layout, args }) => {
  const directory = await mkdtemp(join(tmpdir(), 'nibble-load-memory-'));
  try {
    await writeRandomModel(directory, shape, 1, layout);
    // As `nibble` starts its program: freed tensors go back to the system.
    const env = { ...process.env, MALLOC_MMAP_THRESHOLD_: String(1 << 20) };
    const command = [...NODE_FLAGS, PROGRAM, '--model-id', directory, ...args];
    const { stdout } = await promisify(execFile)(process.execPath, command, { env });
    const { largestTensor, peakHostBytes } = JSON.parse(stdout) as LoadMemory;
    expect(largestTensor.bytes).toBe(LARGEST_BYTES);
    // The tensor itself was there, or what is made of it: what is measured is not nothing.
    expect(peakHostBytes / LARGEST_BYTES).toBeGreaterThan(args.length > 0 ? 0.25 : 1);
    expect(peakHostBytes / LARGEST_BYTES).toBeLessThan(2);
  } finally {
    await rm(directory, { recursive: true });
  }
});
