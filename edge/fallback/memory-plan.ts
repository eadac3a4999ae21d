/** Memory plan: what a model will take in the fallback's isolate, by arithmetic on its header, before a tensor is read. Pure. */
import { NibbleError } from '../../core/errors.ts';
import type { HeadBits } from '../../core/formats/requantize.ts';
import { DTYPE_BITS, type TensorEntry } from '../../core/formats/safetensors-header.ts';
import { type KvDtype, kvBytesPerToken } from '../../core/model/backend.ts';
import type { ModelOutline } from '../../core/model/model-files.ts';

/** Of the isolate's 128 MB: the rest is for what is not counted here (code, streams, garbage that was not collected yet). */
export const LIMIT_BYTES = 96_000_000;
/** JavaScript's own heap with the script loaded and no model. Measured: scripts/fallback-memory.ts. */
const BASE_HEAP_BYTES = 6_300_000;
/** Heap of a tokenizer for each byte of its tokenizer.json: strings and maps of vocabulary and merges. Measured likewise. */
const TOKENIZER_HEAP_FACTOR = 6;
/** Up to here what is left becomes context beyond the least: JavaScript's heap grows by its garbage before it is collected. */
const CONTEXT_LIMIT_BYTES = 92_000_000;
/** Intermediates of one step. Its tokens follow from this. */
const STEP_BYTES = 2_000_000;
const MAX_STEP_TOKENS = 64;
/** Below this, or the model's own if that is shorter, a context is of no use. */
const MIN_CONTEXT_TOKENS = 512;
const MAX_CACHED_TOKENS = 4096;

export interface MemoryPlan {
  weightBytes: number;
  /** JavaScript's heap: the script, the tokenizer, the largest tensor on its way. */
  heapBytes: number;
  stepBytes: number;
  kvBytes: number;
  /** Tokens of all sequences together in the key/value cache. */
  cachedTokens: number;
  /** What prompt and answer may have together. */
  contextTokens: number;
  /** Tokens that one step may compute. */
  stepTokens: number;
}

export interface PlanOptions {
  headBits: HeadBits;
  kvDtype: KvDtype;
  /** Size of tokenizer.json. */
  tokenizerBytes: number;
  /** Sequences at once: the cache has room for their whole contexts where it can. */
  slots: number;
  limitBytes?: number;
}

/** Throws `model_unsupported` with the numbers when weights, key/value cache and heap exceed the limit. `file` names the model. */
export function planMemory(file: string, outline: ModelOutline, options: PlanOptions): MemoryPlan {
  const { config, checkpoint, quantization } = outline;
  const { headBits, kvDtype, tokenizerBytes, slots, limitBytes = LIMIT_BYTES } = options;
  if (quantization.kind !== 'gptq' && quantization.kind !== 'none')
    throw new NibbleError({
      code: 'model_unsupported',
      file,
      option: quantization.kind,
      reason: 'the fallback runs GPTQ and plain checkpoints',
    });
  const entries = [...checkpoint.tensors.values()];
  const tables = new Set([config.tensors.embedding, config.tensors.head].map((name) => `${name}.weight`));
  const gptq = quantization.kind === 'gptq' ? quantization.config : null;
  const weightBytes = entries.reduce((sum, entry) => {
    if (entry.name === `${config.tensors.head}.weight` && config.tiedHead) return sum;
    return sum + (tables.has(entry.name) ? tableBytes(entry, headBits) : placedBytes(entry, gptq));
  }, 0);
  const inTransit = entries.filter(({ name }) => headBits === 16 || !tables.has(name));
  const largestBytes = inTransit.reduce((most, { begin, end }) => Math.max(most, end - begin), 0);
  const heapBytes = BASE_HEAP_BYTES + TOKENIZER_HEAP_FACTOR * tokenizerBytes + largestBytes;

  const tokenBytes = stepBytesPerToken(config);
  const logitBytes = slots * config.vocabSize * 4;
  const stepTokens = Math.min(MAX_STEP_TOKENS, Math.max(slots, Math.floor((STEP_BYTES - logitBytes) / tokenBytes)));
  const stepBytes = stepTokens * tokenBytes + logitBytes;
  const perToken = kvBytesPerToken({ ...config, dtype: kvDtype });
  const least = Math.min(MIN_CONTEXT_TOKENS, config.contextTokens);
  const needed = weightBytes + heapBytes + stepBytes + least * perToken;
  if (needed > limitBytes) {
    throw new NibbleError({
      code: 'model_unsupported',
      file,
      option: 'memory',
      reason:
        `the fallback would need ${needed} bytes and has ${limitBytes}: ${weightBytes} of weights with embedding and head in ${headBits} bits, ` +
        `${least * perToken} of ${kvDtype} keys and values for ${least} tokens, ${stepBytes} of a step's intermediates, ${heapBytes} of JavaScript heap`,
    });
  }
  const room = Math.floor((Math.min(limitBytes, CONTEXT_LIMIT_BYTES) - needed) / perToken);
  const cachedTokens = Math.min(least + Math.max(0, room), slots * config.contextTokens, MAX_CACHED_TOKENS);
  const contextTokens = Math.min(config.contextTokens, cachedTokens);
  return {
    weightBytes,
    heapBytes,
    stepBytes,
    kvBytes: cachedTokens * perToken,
    cachedTokens,
    contextTokens,
    stepTokens,
  };
}

/** Embedding or head [rows, cols]. */
function tableBytes(entry: TensorEntry, headBits: HeadBits): number {
  if (headBits === 16) return placedBytes(entry, null);
  const values = countOf(entry);
  const [rows = 0] = entry.shape;
  // f16 scales of groups of 32, f32 biases that are zero.
  return (values * headBits) / 8 + (values / 32) * 2 + rows * 4;
}

/** A tensor as the wasm kernels hold it. */
function placedBytes(entry: TensorEntry, gptq: { symmetric: boolean; bits: number; actOrder: boolean } | null): number {
  const values = countOf(entry);
  const part = entry.name.slice(entry.name.lastIndexOf('.') + 1);
  if (gptq !== null && part === 'qweight') return values * 4 + 4 * (entry.shape[1] ?? 0);
  // A byte a zero point, none where they are all in the middle.
  if (gptq !== null && part === 'qzeros') return gptq.symmetric ? 0 : (values * 32) / gptq.bits;
  if (gptq !== null && part === 'scales') return values * 2;
  if (gptq !== null && part === 'g_idx') return gptq.actOrder ? values * 4 : 0;
  if (entry.shape.length === 2) return values * (entry.dtype === 'F16' ? 2 : 4);
  return values * Math.max(4, DTYPE_BITS[entry.dtype] / 8);
}

function countOf({ shape }: TensorEntry): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** f32 intermediates of one layer, whose places the next one takes. Logits are of the sequences' last tokens alone. */
function stepBytesPerToken({ hidden, heads, kvHeads, headDim, intermediate }: ModelOutline['config']) {
  const attention = (heads + 2 * kvHeads) * headDim + heads * headDim;
  return 4 * (6 * hidden + attention + 3 * intermediate);
}
