/** LayerForward: one decoder layer (or the embedding) on one backend, run over whole sequences. */
import { makeBatch } from '../../core/engine/batch.ts';
import { PAGE_TOKENS } from '../../core/engine/engine.ts';
import type { CheckpointFiles } from '../../core/formats/checkpoint-index.ts';
import type { Quantization } from '../../core/formats/quantization.ts';
import type { Architecture } from '../../core/model/architecture.ts';
import type { Backend, Batch } from '../../core/model/backend.ts';
import { loadEmbedding, loadLayer } from '../../core/model/checkpoint.ts';
import { embedTokens } from '../../core/model/embedding.ts';
import { LayerPass } from '../../core/model/layer-pass.ts';
import { ResidualStream } from '../../core/model/residual-stream.ts';
import type { LayerWeights } from '../../core/model/weights.ts';
import { InputCapture } from './input-capture.ts';

interface ForwardOptions {
  config: Architecture;
  checkpoint: CheckpointFiles;
  quantization: Quantization;
  /** Taken over: disposed of with the layer. */
  backend: Backend;
}

function wholeSequence(ids: readonly number[]): Batch {
  const pageIds = Array.from({ length: Math.ceil(ids.length / PAGE_TOKENS) }, (_, i) => i);
  const sequence = { ids, numCachedTokens: 0, pageIds, plannedTokens: ids.length };
  return makeBatch([{ sequence, count: ids.length }], PAGE_TOKENS, 'ends');
}

/** Hidden states [tokens, hidden] of each sequence, one after another; the embedding is on the backend meanwhile. */
export async function embedSequences(
  { config, checkpoint, quantization, backend }: ForwardOptions,
  sequences: readonly (readonly number[])[],
  onSequence: (hidden: Float32Array, index: number) => void,
): Promise<void> {
  const weights = await loadEmbedding(checkpoint, { config, quantization, backend });
  allocatePages(backend, config, Math.max(...sequences.map(({ length }) => length)));
  for (const [index, ids] of sequences.entries()) {
    const batch = wholeSequence(ids);
    backend.begin(batch);
    onSequence(await backend.read(embedTokens(config, weights, backend, batch)), index);
  }
  await backend.dispose();
}

export class LayerForward {
  readonly #config: Architecture;
  readonly #capture: InputCapture;
  readonly #layer: number;
  readonly #weights: LayerWeights;

  private constructor(config: Architecture, capture: InputCapture, layer: number, weights: LayerWeights) {
    this.#config = config;
    this.#capture = capture;
    this.#layer = layer;
    this.#weights = weights;
  }

  /** `maxTokens`: of the longest sequence that it will be given. */
  static async load(options: ForwardOptions, layer: number, maxTokens: number): Promise<LayerForward> {
    const { config, checkpoint, quantization } = options;
    const capture = new InputCapture(options.backend);
    const { backend } = capture;
    const weights = await loadLayer(checkpoint, layer, { config, quantization, backend });
    allocatePages(backend, config, maxTokens);
    return new LayerForward(config, capture, layer, weights);
  }

  /** hidden [tokens, hidden] → the same after the layer. */
  async run(hidden: Float32Array): Promise<Float32Array> {
    const stream = this.#begin(hidden);
    this.#pass(stream);
    return this.#capture.backend.read(stream.stream.value());
  }

  /** The inputs [tokens, columns] of the linears `names`; what comes after the last of them is not computed. */
  async inputsOf(names: readonly string[], hidden: Float32Array): Promise<Float32Array[]> {
    return this.#capture.during(names, () => this.#pass(this.#begin(hidden)));
  }

  dispose(): Promise<void> {
    return this.#capture.backend.dispose();
  }

  #begin(hidden: Float32Array): { batch: Batch; stream: ResidualStream } {
    const { backend } = this.#capture;
    const tokens = hidden.length / this.#config.hidden;
    // The ids are not looked at: the hidden states stand for them.
    const batch = wholeSequence(new Array(tokens).fill(0));
    backend.begin(batch);
    const start = backend.write(hidden, tokens, this.#config.hidden);
    return { batch, stream: new ResidualStream(start, this.#config.norm, backend) };
  }

  #pass({ batch, stream }: { batch: Batch; stream: ResidualStream }): void {
    const { rope } = this.#config.layerAttention[this.#layer]!;
    const pass = new LayerPass(this.#config, this.#capture.backend, batch, rope === null ? [] : [rope]);
    pass.run(this.#layer, this.#weights, stream);
  }
}

function allocatePages(backend: Backend, { kvHeads, headDim }: Architecture, maxTokens: number): void {
  const pages = Math.ceil(maxTokens / PAGE_TOKENS);
  const shape = { layers: 1, kvHeads, headDim, pages, pageTokens: PAGE_TOKENS };
  // Exact keys and values: what is calibrated is the model, not a worker's memory.
  backend.allocateKv({ ...shape, dtype: 'f32' });
}
