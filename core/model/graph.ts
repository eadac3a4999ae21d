/** Graph: the forward pass, written once for every architecture and every backend. */
import type { Activation, Backend, Batch } from './backend.ts';
import type { ModelConfig } from './config.ts';
import { embedTokens } from './embedding.ts';
import { LayerPass, ropesOf } from './layer-pass.ts';
import { ResidualStream } from './residual-stream.ts';
import type { RopeOptions } from './rope.ts';
import { type ModelWeights, stepWeightBytes } from './weights.ts';

/** A model's weights on a backend, and the pass through them. */
export class Graph {
  readonly config: ModelConfig;
  readonly backend: Backend;
  readonly #weights: ModelWeights;
  readonly #ropes: readonly RopeOptions[];

  constructor(config: ModelConfig, weights: ModelWeights, backend: Backend) {
    this.config = config;
    this.backend = backend;
    this.#weights = weights;
    this.#ropes = ropesOf(config);
  }

  /** Bytes of weights that a step reads, as they lie on the backend. */
  get stepWeightBytes(): number {
    return stepWeightBytes(this.#weights);
  }

  /** Runs one batch. Resolves to the logits [outputRows.length, vocab] f32, rows in the order of batch.outputRows. */
  async forward(batch: Batch): Promise<Float32Array> {
    const logits = this.enqueue(batch);
    return logits === null ? new Float32Array(0) : this.backend.read(logits);
  }

  /** Hands one batch to the backend and returns its logits there, valid until the next batch; null when it asks for no row's. */
  enqueue(batch: Batch): Activation | null {
    const { backend, config } = this;
    const { layers, finalNorm, projection, head } = this.#weights;
    backend.begin(batch);
    const pass = new LayerPass(config, backend, batch, this.#ropes);
    const stream = new ResidualStream(embedTokens(config, this.#weights, backend, batch), config.norm, backend);
    for (const [index, layer] of layers.entries())
      if (index < layers.length - 1) pass.run(index, layer, stream);
      else if (batch.outputRows.length > 0) pass.runLast(index, layer, stream, batch.outputRows);
      else pass.cache(index, layer, stream);
    if (batch.outputRows.length === 0) return null;

    const outputs = finalNorm === null ? stream.value() : stream.normed(finalNorm);
    const projected = projection === null ? outputs : backend.linear(outputs, projection.out);
    const logits = backend.linear(projected, head);
    if (config.logitSoftcap !== null) backend.softcap(logits, config.logitSoftcap);
    return logits;
  }
}
