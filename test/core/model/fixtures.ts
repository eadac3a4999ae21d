/** Fixtures: the tiny models of test/fixtures/architectures (made by scripts/fixtures/architectures.py) and how a test runs one. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeBatch } from '../../../core/engine/batch.ts';
import { type CheckpointFiles, openCheckpoint } from '../../../core/formats/checkpoint-index.ts';
import type { Quantization } from '../../../core/formats/quantization.ts';
import type { HeadBits } from '../../../core/formats/requantize.ts';
import type { Backend } from '../../../core/model/backend.ts';
import { loadModelWeights } from '../../../core/model/checkpoint.ts';
import { type ModelConfig, parseModelConfig } from '../../../core/model/config.ts';
import { Graph } from '../../../core/model/graph.ts';
import { ReferenceBackend } from '../../../core/model/reference.ts';
import { openLocalModel } from '../../../gpu-worker/store/local.ts';
import { ensureWasmBuilt } from '../../../scripts/build-wasm.ts';
import { loadWasmBackend } from '../../../wasm/node.ts';

const DIRECTORY = join(import.meta.dirname, '../../fixtures/architectures');
const PAGE_TOKENS = 4;

export const FIXTURES = [
  'llama',
  'llama-linear',
  'llama-dynamic',
  'llama-llama3',
  'llama-yarn',
  'mistral',
  'qwen2',
  'qwen3',
  'phi3',
  'phi3-longrope',
  'gemma',
  'gemma2',
  'gemma3',
  'gemma3-vision',
  'falcon-7b',
  'falcon-40b',
  'falcon-11b',
  'falcon-rw',
  'opt',
  'opt-350m',
] as const;
export type FixtureName = (typeof FIXTURES)[number];

export interface Fixture {
  config: ModelConfig;
  checkpoint: CheckpointFiles;
  /** ids, and the logits [ids, vocab] that transformers gives after each. */
  golden: Record<'short' | 'long', { ids: number[]; logits: Float32Array }>;
}

export function configJson(name: FixtureName): Record<string, unknown> {
  return JSON.parse(readFileSync(join(DIRECTORY, name, 'config.json'), 'utf8'));
}

export async function openFixture(name: FixtureName): Promise<Fixture> {
  const goldenFile = await inMemory(join(DIRECTORY, name, 'golden.safetensors'));
  const prompt = async (kind: string) => ({
    ids: [...new Int32Array((await goldenFile.read(`${kind}_ids`)).slice().buffer)],
    logits: new Float32Array((await goldenFile.read(`${kind}_logits`)).slice().buffer),
  });
  return {
    config: parseModelConfig(configJson(name), null, `${name}/config.json`),
    checkpoint: await inMemory(join(DIRECTORY, name)),
    golden: { short: await prompt('short'), long: await prompt('long') },
  };
}

/** Reads all tensors, so that no file stays open. */
async function inMemory(path: string): Promise<CheckpointFiles> {
  const files = await openLocalModel(path);
  const checkpoint = await openCheckpoint(files);
  const bytes = new Map<string, Uint8Array>();
  for (const name of checkpoint.tensors.keys()) bytes.set(name, await checkpoint.read(name));
  await files.close();
  return {
    ...checkpoint,
    read: async (name) => bytes.get(name)!.slice(),
    readRange: async (name, offset, length) => bytes.get(name)!.slice(offset, offset + length),
  };
}

export type RunnableBackend = 'reference' | 'wasm';

async function openBackend(name: RunnableBackend): Promise<Backend> {
  if (name === 'reference') return new ReferenceBackend();
  ensureWasmBuilt();
  return loadWasmBackend();
}

/**
 * The backend is closed afterwards. Logits [ids, vocab], or with `outputs` 'ends' the last one's [vocab], the prompt computed in runs of
 * `runTokens` (null: all at once), in pages that lie out of order.
 */
export async function logitsOf(
  { config, checkpoint }: Pick<Fixture, 'config' | 'checkpoint'>,
  ids: readonly number[],
  options: {
    backend?: RunnableBackend | Backend;
    quantization?: Quantization;
    headBits?: HeadBits;
    runTokens?: number;
    plannedTokens?: number;
    outputs?: 'all' | 'ends';
  } = {},
): Promise<Float32Array> {
  const { outputs = 'all', backend: chosen = 'reference' } = options;
  const backend = typeof chosen === 'string' ? await openBackend(chosen) : chosen;
  const quantization = options.quantization ?? { kind: 'none' };
  const { headBits = 16 } = options;
  const weights = await loadModelWeights(checkpoint, { config, quantization, backend, headBits });
  const graph = new Graph(config, weights, backend);
  const pages = Math.ceil(ids.length / PAGE_TOKENS);
  const { layers, kvHeads, headDim } = config;
  // As transformers keeps them: f16 pages would be most of the difference.
  backend.allocateKv({ layers, kvHeads, headDim, pages, pageTokens: PAGE_TOKENS, dtype: 'f32' });
  const pageIds = Array.from({ length: pages }, (_, page) => pages - 1 - page);
  const runTokens = options.runTokens ?? ids.length;
  const logits = new Float32Array((outputs === 'all' ? ids.length : 1) * config.vocabSize);
  for (let start = 0; start < ids.length; start += runTokens) {
    const sequence = { ids, numCachedTokens: start, pageIds, plannedTokens: options.plannedTokens ?? ids.length };
    const count = Math.min(runTokens, ids.length - start);
    const rows = await graph.forward(makeBatch([{ sequence, count }], PAGE_TOKENS, outputs));
    logits.set(rows, outputs === 'all' ? start * config.vocabSize : 0);
  }
  await backend.dispose();
  return logits;
}

/** Logits [ids, vocab] of each prompt, all computed in one batch. */
export async function logitsTogether(
  { config, checkpoint }: Pick<Fixture, 'config' | 'checkpoint'>,
  prompts: readonly number[][],
): Promise<Float32Array[]> {
  const backend = new ReferenceBackend();
  const weights = await loadModelWeights(checkpoint, { config, quantization: { kind: 'none' }, backend });
  const { layers, kvHeads, headDim } = config;
  const pagesOf = (ids: readonly number[]) => Math.ceil(ids.length / PAGE_TOKENS);
  const pages = prompts.reduce((sum, ids) => sum + pagesOf(ids), 0);
  backend.allocateKv({ layers, kvHeads, headDim, pages, pageTokens: PAGE_TOKENS, dtype: backend.defaultKvDtype });
  let page = 0;
  const runs = prompts.map((ids) => {
    const pageIds = Array.from({ length: pagesOf(ids) }, () => page++);
    return { sequence: { ids, numCachedTokens: 0, pageIds, plannedTokens: ids.length }, count: ids.length };
  });
  const rows = await new Graph(config, weights, backend).forward(makeBatch(runs, PAGE_TOKENS, 'all'));
  let begin = 0;
  return prompts.map((ids) => {
    const end = begin + ids.length * config.vocabSize;
    const own = rows.slice(begin, end);
    begin = end;
    return own;
  });
}

/** The largest |a − b|. */
export function largestDifference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) throw new Error(`${a.length} values against ${b.length}`);
  return a.reduce((worst, value, i) => Math.max(worst, Math.abs(value - b[i]!)), 0);
}

/** ‖a − b‖ / ‖b‖ */
export function relativeError(a: Float32Array, b: Float32Array): number {
  let [difference, size] = [0, 0];
  b.forEach((value, i) => {
    difference += (a[i]! - value) ** 2;
    size += value ** 2;
  });
  return Math.sqrt(difference / size);
}
