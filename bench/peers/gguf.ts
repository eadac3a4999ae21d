/** Gguf: writes a Llama with random Q4_0 weights and a tied head, for llama.cpp and what is built on it (format: ggml/docs/gguf.md, version 3). */
import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { f32ToF16 } from '../../core/formats/half.ts';
import { RandomWords } from '../../gpu-worker/bench/random-words.ts';
import { layerMatrices, type ModelShape } from '../../gpu-worker/bench/shape.ts';
import { GgufHeader, type TensorEntry } from './gguf-header.ts';
import { syntheticVocabulary } from './vocabulary.ts';

/** Bump when the bytes change, so that files of an older writer are not taken. */
const VERSION = 1;
/** A block of Q4_0: one f16 scale and 32 values in 16 bytes. */
const BLOCK_VALUES = 32;
const BLOCK_BYTES = 18;
const SEED = 1;
/** Of 16 equally likely integers. */
const DEVIATION = 4.6;

const LLAMA_NAMES: Readonly<Record<string, string>> = {
  q: 'attn_q',
  k: 'attn_k',
  v: 'attn_v',
  o: 'attn_output',
  gate: 'ffn_gate',
  up: 'ffn_up',
  down: 'ffn_down',
};

/** Its path, and what a token reads of weights. Written once and kept. */
export function ensureGguf(shape: ModelShape, directory: string): { path: string; weightBytes: number } {
  const { hidden, layers, ffn, heads, kvHeads, vocab } = shape;
  const tensors = tensorsOf(shape);
  const weightBytes = tensors.reduce((sum, { kind, bytes }) => sum + (kind === 'q4_0' ? bytes : 0), 0);
  const path = join(directory, `v${VERSION}-${[hidden, layers, ffn, heads, kvHeads, vocab].join('-')}-q4_0.gguf`);
  if (existsSync(path)) return { path, weightBytes };
  mkdirSync(directory, { recursive: true });
  const unfinished = `${path}.${process.pid}`;
  const file = openSync(unfinished, 'w');
  writeSync(file, headerOf(shape, tensors));
  const random = new RandomWords(SEED);
  for (const tensor of tensors) {
    const bytes = tensor.kind === 'f32' ? ones(tensor.cols) : randomBlocks(tensor, random);
    writeSync(file, bytes);
    writeSync(file, Buffer.alloc(-bytes.length & 31));
  }
  closeSync(file);
  renameSync(unfinished, path);
  return { path, weightBytes };
}

function tensorsOf(shape: ModelShape): TensorEntry[] {
  const { hidden, ffn, layers, vocab } = shape;
  if (hidden % BLOCK_VALUES !== 0 || ffn % BLOCK_VALUES !== 0)
    throw new Error(`hidden ${hidden} and ffn ${ffn} must be multiples of ${BLOCK_VALUES} for Q4_0`);
  const matrix = (name: string, rows: number, cols: number): TensorEntry => {
    return { name, kind: 'q4_0', rows, cols, bytes: ((rows * cols) / BLOCK_VALUES) * BLOCK_BYTES };
  };
  const vector = (name: string): TensorEntry => ({ name, kind: 'f32', rows: 1, cols: hidden, bytes: hidden * 4 });
  return [
    matrix('token_embd.weight', vocab, hidden),
    ...Array.from({ length: layers }, (_, layer) => [
      vector(`blk.${layer}.attn_norm.weight`),
      vector(`blk.${layer}.ffn_norm.weight`),
      ...layerMatrices(shape).map(({ name, out, in: cols }) =>
        matrix(`blk.${layer}.${LLAMA_NAMES[name]}.weight`, out, cols),
      ),
    ]).flat(),
    vector('output_norm.weight'),
  ];
}

function headerOf({ hidden, layers, ffn, heads, kvHeads, vocab }: ModelShape, tensors: TensorEntry[]): Buffer {
  const { tokens, scores, types } = syntheticVocabulary(vocab);
  const header = new GgufHeader();
  header.text('general.architecture', 'llama');
  header.text('general.name', 'random');
  // LLAMA_FTYPE_MOSTLY_Q4_0
  header.count('general.file_type', 2);
  header.count('general.alignment', 32);
  header.count('llama.block_count', layers);
  header.count('llama.context_length', 8192);
  header.count('llama.embedding_length', hidden);
  header.count('llama.feed_forward_length', ffn);
  header.count('llama.attention.head_count', heads);
  header.count('llama.attention.head_count_kv', kvHeads);
  header.count('llama.rope.dimension_count', hidden / heads);
  header.float('llama.attention.layer_norm_rms_epsilon', 1e-5);
  header.float('llama.rope.freq_base', 10_000);
  header.count('llama.vocab_size', vocab);
  header.text('tokenizer.ggml.model', 'llama');
  header.texts('tokenizer.ggml.tokens', tokens);
  header.floats('tokenizer.ggml.scores', scores);
  header.integers('tokenizer.ggml.token_type', types);
  header.count('tokenizer.ggml.unknown_token_id', 0);
  header.count('tokenizer.ggml.bos_token_id', 1);
  header.count('tokenizer.ggml.eos_token_id', 2);
  return header.bytes(tensors);
}

function ones(count: number): Buffer {
  return Buffer.from(new Float32Array(count).fill(1).buffer);
}

/** Scales such that a weight deviates by about 1/√cols. */
function randomBlocks({ cols, bytes }: TensorEntry, random: RandomWords): Buffer {
  const blocks = Buffer.from(random.bytes(bytes));
  const scales = [...random.uniform(256, 0.75, 1.25)].map((factor) => f32ToF16(factor / Math.sqrt(cols) / DEVIATION));
  for (let at = 0; at < bytes; at += BLOCK_BYTES) blocks.writeUInt16LE(scales[blocks[at]!]!, at);
  return blocks;
}
