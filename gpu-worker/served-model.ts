/** ServedModel: a loaded model with an engine over it and the card that says what it can do, as the flags of `nibble serve` ask. */
import { Engine, type EngineOptions } from '../core/engine/engine.ts';
import type { Backend } from '../core/model/backend.ts';
import type { Graph } from '../core/model/graph.ts';
import type { ModelCard } from '../core/protocol.ts';
import { type Options, usage } from './command-line.ts';
import { kvSize } from './kv-size.ts';
import { loadModel } from './loader.ts';
import { kvDtypeOf } from './model-flags.ts';

const DEFAULT_STEP_TOKENS = 512;

export interface ServedModel {
  card: ModelCard;
  engine: Engine;
  backendName: Backend['name'];
  /** Tokens of all sequences together that the cache holds. */
  cacheTokens: number;
  maxPromptTokens: number;
  /** The model again, on its backend opened anew. */
  reload(): Promise<Graph>;
  dispose(): Promise<void>;
}

/** `slots`: sequences that run at once. */
export async function openServedModel(
  options: Options,
  slots: number,
  log: (line: string) => void,
  onBatch?: EngineOptions['onBatch'],
): Promise<ServedModel> {
  const { maxTotal, maxInput } = lengthsOf(options);
  const model = await loadModel(options);
  let { backend } = model;
  const kv = await kvSize(model.config, backend, {
    slots,
    given: options.number('max-batch-total-tokens'),
    dtype: kvDtypeOf(options),
  });
  const contextTokens = Math.min(kv.contextTokens, maxTotal ?? kv.contextTokens);
  const card = model.card(options.text('served-model-name') ?? model.baseName, contextTokens);
  const engine = new Engine(model.graph, model.tokenizer, model.template, {
    maxSequences: slots,
    maxBatchTokens: Math.max(slots, options.number('max-batch-prefill-tokens') ?? DEFAULT_STEP_TOKENS),
    maxCachedTokens: kv.tokens,
    kvDtype: kv.dtype,
    ...(maxTotal !== null && { maxContextTokens: maxTotal }),
    ...(maxInput !== null && { maxPromptTokens: maxInput }),
    ...(onBatch !== undefined && { onBatch }),
  });
  log(
    `${card.id}: ${card.parameters} parameters, ${card.quantization ?? 'not quantized'}, on ${backend.name}; ${slots} slots, ${kv.tokens} tokens of cache`,
  );
  return {
    card,
    engine,
    backendName: backend.name,
    cacheTokens: kv.tokens,
    maxPromptTokens: Math.min(maxInput ?? contextTokens - 1, contextTokens - 1),
    reload: async () => {
      await backend.dispose();
      const again = await loadModel(options);
      backend = again.backend;
      return again.graph;
    },
    dispose: async () => backend.dispose(),
  };
}

/** --max-total-tokens and --max-input-tokens, which TGI wants in this order of size. */
function lengthsOf(options: Options): { maxTotal: number | null; maxInput: number | null } {
  const maxTotal = options.number('max-total-tokens');
  const maxInput = options.number('max-input-tokens');
  if (maxTotal !== null && maxInput !== null && maxInput >= maxTotal)
    throw usage(`--max-input-tokens is ${maxInput}; it must be less than --max-total-tokens, ${maxTotal}`);
  return { maxTotal, maxInput };
}
