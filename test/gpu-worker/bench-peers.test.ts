import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureGguf } from '../../bench/peers/gguf.ts';
import { matMulNBits } from '../../bench/peers/onnx.ts';
import { syntheticVocabulary } from '../../bench/peers/vocabulary.ts';
import { Peer, rivalsOf } from '../../gpu-worker/bench/peers.ts';
import { multipliedWeights, parseShape } from '../../gpu-worker/bench/shape.ts';
import { parseOptions } from '../../gpu-worker/command-line.ts';
import { bench } from '../../gpu-worker/commands/bench.ts';

const shape = parseShape('64,2,96,4,2,320');

describe('a random GGUF', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'nibble-gguf-'));
  });
  afterAll(() => rm(directory, { recursive: true }));

  test('has the tensors of the shape, each where its entry says, 4.5 bits a weight', async () => {
    const { path, weightBytes } = ensureGguf(shape, directory);
    const file = await readFile(path);
    const { pairs, tensors, start } = readGguf(file);
    expect(pairs.get('general.architecture')).toBe('llama');
    expect(pairs.get('llama.block_count')).toBe(2);
    expect(pairs.get('llama.attention.head_count_kv')).toBe(2);
    expect((pairs.get('tokenizer.ggml.tokens') as string[]).length).toBe(320);
    expect(
      tensors
        .map(({ name }) => name)
        .filter((name) => name.startsWith('blk.1.'))
        .sort(),
    ).toEqual(
      ['attn_k', 'attn_norm', 'attn_output', 'attn_q', 'attn_v', 'ffn_down', 'ffn_gate', 'ffn_norm', 'ffn_up'].map(
        (name) => `blk.1.${name}.weight`,
      ),
    );
    expect(tensors.find(({ name }) => name === 'blk.0.ffn_down.weight')!.dimensions).toEqual([96, 64]);
    expect(weightBytes).toBe((multipliedWeights(shape) * 4.5) / 8);
    let end = 0;
    for (const { name, type, dimensions, offset } of tensors) {
      const values = dimensions.reduce((product, size) => product * size, 1);
      expect(offset, name).toBe(Math.ceil(end / 32) * 32);
      end = offset + (type === 2 ? (values / 32) * 18 : values * 4);
    }
    expect(file.length).toBe(start + Math.ceil(end / 32) * 32);
    // The first block of the first matrix: a scale that keeps weights at about 1/8.
    const scale = file.readUInt16LE(start);
    expect(2 ** ((scale >> 10) - 15) * (1 + (scale & 1023) / 1024)).toBeCloseTo(1 / 8 / 4.6, 1);
  });

  test('is written once, and the same each time', async () => {
    const { path } = ensureGguf(shape, directory);
    const first = await readFile(path);
    await rm(path);
    expect(await readFile(ensureGguf(shape, directory).path)).toEqual(first);
  });

  test('is refused for what Q4_0 cannot hold', () => {
    expect(() => ensureGguf(parseShape('40,1,96,4,2,320'), directory)).toThrow(
      'hidden 40 and ffn 96 must be multiples of 32 for Q4_0',
    );
    expect(() => ensureGguf(parseShape('64,1,96,4,2,200'), directory)).toThrow('a vocabulary of 200');
  });
});

test('a vocabulary has as many pieces as asked for, no two alike', () => {
  const { tokens, scores, types } = syntheticVocabulary(32000);
  expect(new Set(tokens).size).toBe(32000);
  expect([tokens.length, scores.length, types.length]).toEqual([32000, 32000, 32000]);
  expect([types[0], types[1], types[3], types[258], types[259]]).toEqual([2, 3, 6, 6, 1]);
});

test('an ONNX model holds the node, its weights and one scale a block', () => {
  const bytes = Buffer.from(matMulNBits({ out: 32, in: 64, bits: 4, blockSize: 32 }));
  for (const name of ['MatMulNBits', 'com.microsoft', 'accuracy_level', 'block_size'])
    expect(bytes.includes(name), name).toBe(true);
  // 32 rows of 32 bytes and 64 f32 scales, and little else.
  expect(bytes.length).toBeGreaterThan(32 * 32 + 64 * 4);
  expect(bytes.length).toBeLessThan(32 * 32 + 64 * 4 + 400);
});

describe('rivals', () => {
  const rivals = (task: 'model' | 'gemv', ...args: string[]) =>
    rivalsOf(parseOptions(bench, ['decode', ...args], {}), task);

  test('are those of the task, or of --rivals', () => {
    expect(rivals('model')).toEqual([]);
    expect(rivals('model', '--peers')).toEqual(['node-llama-cpp', 'wllama']);
    expect(rivals('gemv', '--peers')).toEqual(['onnxruntime-web']);
    expect(rivals('model', '--peers', '--rivals', 'wllama')).toEqual(['wllama']);
    expect(() => rivals('model', '--rivals', 'wllama')).toThrow('--rivals goes with --peers');
    expect(() => rivals('gemv', '--peers', '--rivals', 'wllama')).toThrow('"wllama" is not one of onnxruntime-web');
  });

  test('that cannot start say why, and leave no process', async () => {
    const setup = { shape, threads: 1, contextTokens: 8, cacheDirectory: '/nowhere' };
    await expect(Peer.start('no-such-rival', setup)).rejects.toThrow(/its process ended.*no-such-rival/);
  });
});

interface GgufTensor {
  name: string;
  dimensions: number[];
  type: number;
  offset: number;
}

/** As ggml/docs/gguf.md has it, only the value types that a Llama needs. */
function readGguf(file: Buffer): { pairs: Map<string, unknown>; tensors: GgufTensor[]; start: number } {
  let at = 0;
  const take = (bytes: number) => {
    at += bytes;
    return file.subarray(at - bytes, at);
  };
  const u32 = () => take(4).readUInt32LE();
  const u64 = () => Number(take(8).readBigUInt64LE());
  const string = () => take(u64()).toString('utf8');
  const value = (type: number): unknown => {
    if (type === 4 || type === 5) return u32();
    if (type === 6) return take(4).readFloatLE();
    if (type === 8) return string();
    expect(type).toBe(9);
    const [of, length] = [u32(), u64()];
    return Array.from({ length }, () => value(of));
  };
  expect(file.toString('latin1', 0, 4)).toBe('GGUF');
  at = 4;
  expect(u32()).toBe(3);
  const [numTensors, numPairs] = [u64(), u64()];
  const pairs = new Map(Array.from({ length: numPairs }, () => [string(), value(u32())]));
  const tensors = Array.from({ length: numTensors }, () => ({
    name: string(),
    dimensions: Array.from({ length: u32() }, u64),
    type: u32(),
    offset: u64(),
  }));
  return { pairs, tensors, start: Math.ceil(at / 32) * 32 };
}
