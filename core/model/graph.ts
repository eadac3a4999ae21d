/** Graph: the forward pass of a Llama-family model, written once for every backend. */
import type { Activation, Backend, Batch, Linear, Vector } from './backend.ts';
import type { ModelConfig } from './config.ts';
import { inverseFrequencies, ropeTables } from './rope.ts';

export interface LayerWeights {
  attentionNorm: Vector;
  query: Linear;
  key: Linear;
  value: Linear;
  output: Linear;
  mlpNorm: Vector;
  gate: Linear;
  up: Linear;
  down: Linear;
}

export interface ModelWeights {
  embedding: Linear;
  layers: LayerWeights[];
  finalNorm: Vector;
  /** The embedding itself when the head is tied. */
  head: Linear;
}

/** Runs one batch. Resolves to the logits [outputRows.length, vocab] f32, rows in the order of batch.outputRows. */
export class Graph {
  readonly config: ModelConfig;
  readonly backend: Backend;
  readonly #weights: ModelWeights;
  readonly #frequencies: Float32Array;

  constructor(config: ModelConfig, weights: ModelWeights, backend: Backend) {
    this.config = config;
    this.backend = backend;
    this.#weights = weights;
    this.#frequencies = inverseFrequencies(config.headDim, config.ropeTheta);
  }

  async forward(batch: Batch): Promise<Float32Array> {
    const { backend } = this;
    const { rmsNormEps: eps, headDim, heads } = this.config;
    const { embedding, layers, finalNorm, head } = this.#weights;

    backend.begin(batch);
    const { cos, sin } = ropeTables(batch.positions, this.#frequencies);
    const rope = backend.rope(cos, sin, headDim);
    const attentionOptions = { heads, scale: 1 / Math.sqrt(headDim) };

    const residual = backend.embed(embedding);
    let mlpOutput: Activation | null = null;
    const normed = (weight: Vector): Activation =>
      mlpOutput === null
        ? backend.rmsNorm(residual, weight, eps)
        : backend.addRmsNorm(residual, mlpOutput, weight, eps);

    for (const [index, layer] of layers.entries()) {
      const x = normed(layer.attentionNorm);
      const query = backend.linear(x, layer.query);
      backend.ropeKv(index, query, backend.linear(x, layer.key), backend.linear(x, layer.value), rope);
      const attended = backend.linear(backend.attention(index, query, attentionOptions), layer.output);

      const h = backend.addRmsNorm(residual, attended, layer.mlpNorm, eps);
      const gated = backend.gatedSilu(backend.linear(h, layer.gate), backend.linear(h, layer.up));
      mlpOutput = backend.linear(gated, layer.down);
    }
    if (batch.outputRows.length === 0) return new Float32Array(0);
    const outputs = backend.gatherRows(normed(finalNorm), batch.outputRows);
    return backend.read(backend.linear(outputs, head));
  }
}
