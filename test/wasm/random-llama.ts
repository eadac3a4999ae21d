/** Random Llama: a model of random 4-bit weights in groups of 32, its embedding and head one table of the same kind. For measuring and for bits, not for text. */
import { makeBatch } from '../../core/engine/batch.ts';
import type { Activation, Backend, KvDtype } from '../../core/model/backend.ts';
import { parseModelConfig } from '../../core/model/config.ts';
import { Graph } from '../../core/model/graph.ts';
import type { LayerWeights } from '../../core/model/weights.ts';
import { gptqOf } from './inputs.ts';

export interface LlamaShape {
  hidden: number;
  layers: number;
  ffn: number;
  heads: number;
  kvHeads: number;
  vocab: number;
}

const PAGE_TOKENS = 16;

export class RandomLlama {
  readonly graph: Graph;
  readonly shape: LlamaShape;
  /** Bytes of all weights that a token reads. */
  readonly weightBytes: number;
  readonly #pageIds: number[];

  private constructor(graph: Graph, shape: LlamaShape, weightBytes: number, pages: number) {
    this.graph = graph;
    this.shape = shape;
    this.weightBytes = weightBytes;
    this.#pageIds = Array.from({ length: pages }, (_, page) => page);
  }

  static async load(
    backend: Backend,
    shape: LlamaShape,
    contextTokens: number,
    dtype: KvDtype = backend.defaultKvDtype,
  ) {
    const { hidden, layers: layerCount, ffn, heads, kvHeads, vocab } = shape;
    const headDim = hidden / heads;
    let weightBytes = 0;
    let seed = 1;
    const linear = async (outFeatures: number, inFeatures: number) => {
      const loaded = await backend.loadLinear(
        gptqOf({ outFeatures, inFeatures, groupSize: 32, sym: true, seed: seed++ }),
        'w',
      );
      weightBytes += loaded.bytes;
      return loaded;
    };
    const norm = () => ({ weight: backend.loadVector(new Float32Array(hidden).fill(0.25), 'norm'), bias: null });
    const embedding = await linear(vocab, hidden);
    const layers: LayerWeights[] = [];
    for (let layer = 0; layer < layerCount; layer++)
      layers.push({
        norms: { attention: norm(), mlp: norm(), outputs: null, heads: null },
        queryKeyValue: {
          kind: 'separate',
          query: await linear(hidden, hidden),
          key: await linear(kvHeads * headDim, hidden),
          value: await linear(kvHeads * headDim, hidden),
        },
        attentionOutput: await linear(hidden, hidden),
        mlp: {
          kind: 'gated',
          gate: await linear(ffn, hidden),
          up: await linear(ffn, hidden),
          down: await linear(hidden, ffn),
        },
      });
    const json = {
      model_type: 'llama',
      hidden_size: hidden,
      num_hidden_layers: layerCount,
      intermediate_size: ffn,
      num_attention_heads: heads,
      num_key_value_heads: kvHeads,
      vocab_size: vocab,
      max_position_embeddings: 4096,
      rms_norm_eps: 1e-5,
      tie_word_embeddings: true,
    };
    const config = parseModelConfig(json, null, 'random');
    const weights = { embedding, positions: null, projection: null, layers, finalNorm: norm(), head: embedding };
    const pages = Math.ceil(contextTokens / PAGE_TOKENS);
    backend.allocateKv({ layers: layerCount, kvHeads, headDim, pages, pageTokens: PAGE_TOKENS, dtype });
    return new RandomLlama(new Graph(config, weights, backend), shape, weightBytes, pages);
  }

  /** Runs tokens [cached, cached + count) of `ids` as one batch and returns the last one's, or all, logits where they are. */
  enqueue(ids: readonly number[], cached: number, count: number, outputs: 'ends' | 'all' = 'ends'): Activation | null {
    const sequence = {
      ids: ids.slice(0, cached + count),
      numCachedTokens: cached,
      pageIds: this.#pageIds,
      plannedTokens: 4096,
    };
    return this.graph.enqueue(makeBatch([{ sequence, count }], PAGE_TOKENS, outputs));
  }
}
