/** Graph: the forward pass, written once for every architecture and every backend. */
import type { LayerAttention } from './architecture.ts';
import type { Activation, Backend, Batch, Rope } from './backend.ts';
import type { ModelConfig } from './config.ts';
import { normOf, ResidualStream } from './residual-stream.ts';
import { type RopeOptions, ropeTables } from './rope.ts';
import { type LayerWeights, type ModelWeights, type Norm, type QueryKeyValue, stepWeightBytes } from './weights.ts';

/** One step's rotary tables; layers share those of equal options. */
type StepRopes = ReadonlyMap<RopeOptions, Rope>;

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
    const ropes = config.layerAttention.map((layer) => layer.rope).filter((rope) => rope !== null);
    this.#ropes = [...new Set(ropes)];
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
    const ropes: StepRopes = new Map(this.#ropes.map((options) => [options, this.#rope(options, batch)]));
    const stream = new ResidualStream(this.#embedded(batch), config.norm, backend);
    for (const [index, layer] of layers.entries()) this.#layer(index, layer, stream, ropes);
    if (batch.outputRows.length === 0) return null;

    const last = finalNorm === null ? stream.value() : stream.normed(finalNorm);
    const outputs = backend.gatherRows(last, batch.outputRows);
    const projected = projection === null ? outputs : backend.linear(outputs, projection.out);
    const logits = backend.linear(projected, head);
    if (config.logitSoftcap !== null) backend.softcap(logits, config.logitSoftcap);
    return logits;
  }

  #rope(options: RopeOptions, batch: Batch): Rope {
    const { cos, sin } = ropeTables(options, batch);
    return this.backend.rope(cos, sin, options.rotaryDim);
  }

  /** [tokens, hidden] */
  #embedded({ tokenIds, positions }: Batch): Activation {
    const { backend, config } = this;
    const { embedding, projection, positions: table } = this.#weights;
    const rows = backend.embed(embedding, tokenIds, config.embeddingScale);
    const x = projection === null ? rows : backend.linear(rows, projection.in);
    if (table !== null) {
      const { offset } = config.learnedPositions!;
      const entries = positions.map((position) => position + offset);
      this.#spent(backend.embed(table, entries, 1), (learned) => {
        backend.add(x, learned);
        return x;
      });
    }
    return x;
  }

  #layer(index: number, layer: LayerWeights, stream: ResidualStream, ropes: StepRopes): void {
    const { norms } = layer;
    const attend = (x: Activation) => this.#attend(index, layer, x, ropes);
    const mlp = (x: Activation) => this.#mlp(layer, x);
    const { placement } = this.config;
    switch (placement) {
      case 'pre':
        stream.add(this.#spent(stream.normed(norms.attention), attend));
        stream.add(this.#spent(stream.normed(norms.mlp), mlp));
        return;
      case 'sandwich': {
        const attended = this.#spent(stream.normed(norms.attention), attend);
        stream.add(this.#spent(attended, (x) => this.#normed(x, norms.outputs!.attention)));
        const mixed = this.#spent(stream.normed(norms.mlp), mlp);
        stream.add(this.#spent(mixed, (x) => this.#normed(x, norms.outputs!.mlp)));
        return;
      }
      case 'post':
        stream.add(attend(stream.value()));
        stream.replace(stream.normed(norms.attention));
        stream.add(mlp(stream.value()));
        stream.replace(stream.normed(norms.mlp));
        return;
      case 'parallel': {
        const x = stream.normed(norms.attention);
        const h = norms.mlp === norms.attention ? x : stream.normed(norms.mlp);
        stream.add(attend(x));
        stream.add(this.#spent(h, mlp));
        if (h !== x) this.backend.free(x);
        return;
      }
      default:
        placement satisfies never;
    }
  }

  /** f(x), after which x is not needed. */
  #spent(x: Activation, f: (x: Activation) => Activation): Activation {
    const y = f(x);
    this.backend.free(x);
    return y;
  }

  /** x [tokens, hidden] → [tokens, hidden] */
  #attend(index: number, layer: LayerWeights, x: Activation, ropes: StepRopes): Activation {
    const { backend, config } = this;
    const { heads, attentionScale: scale, attentionSoftcap: softcap, alibiSlopes } = config;
    const { window, rope }: LayerAttention = config.layerAttention[index]!;
    const { query, key, value } = this.#queryKeyValue(layer, x);
    backend.ropeKv(index, query, key, value, rope === null ? null : ropes.get(rope)!);
    backend.free(key);
    backend.free(value);
    const attended = backend.attention(index, query, { heads, scale, window, softcap, alibiSlopes });
    backend.free(query);
    return this.#spent(attended, (x) => backend.linear(x, layer.attentionOutput));
  }

  #queryKeyValue({ queryKeyValue: weights, norms }: LayerWeights, x: Activation) {
    const { query, key, value } = this.#projected(weights, x);
    if (norms.heads === null) return { query, key, value };
    return { query: this.#headNormed(query, norms.heads.query), key: this.#headNormed(key, norms.heads.key), value };
  }

  #projected(weights: QueryKeyValue, x: Activation) {
    const { backend } = this;
    if (weights.kind === 'separate') {
      const [query, key, value] = backend.linears(x, [weights.query, weights.key, weights.value]);
      return { query: query!, key: key!, value: value! };
    }
    const fused = backend.linear(x, weights.linear);
    const query = backend.columns(fused, weights.query);
    const key = backend.columns(fused, weights.key);
    const value = backend.columns(fused, weights.value);
    backend.free(fused);
    return { query, key, value };
  }

  /** Each head of x [tokens, heads·headDim] by itself. */
  #headNormed(x: Activation, norm: Norm): Activation {
    const { headDim } = this.config;
    const byHead = this.backend.reshape(x, (x.rows * x.cols) / headDim, headDim);
    return this.backend.reshape(
      this.#spent(byHead, (heads) => this.#normed(heads, norm)),
      x.rows,
      x.cols,
    );
  }

  /** x [tokens, hidden] → [tokens, hidden] */
  #mlp({ mlp }: LayerWeights, x: Activation): Activation {
    const { backend } = this;
    const { activation, intermediate: count } = this.config;
    switch (mlp.kind) {
      case 'gated':
        return this.#spent(backend.gatedLinear(activation, x, mlp.gate, mlp.up), (y) => backend.linear(y, mlp.down));
      case 'fused': {
        const gateUp = backend.linear(x, mlp.gateUp);
        const gate = backend.columns(gateUp, [{ begin: 0, count }]);
        const up = backend.columns(gateUp, [{ begin: count, count }]);
        backend.free(gateUp);
        const y = backend.gated(activation, gate, up);
        backend.free(gate);
        backend.free(up);
        return this.#spent(y, (gated) => backend.linear(gated, mlp.down));
      }
      case 'plain': {
        const y = this.#spent(backend.linear(x, mlp.up), (up) => backend.activate(activation, up));
        return this.#spent(y, (activated) => backend.linear(activated, mlp.down));
      }
      default:
        return mlp satisfies never;
    }
  }

  #normed(x: Activation, norm: Norm): Activation {
    return normOf(x, norm, this.config.norm, this.backend);
  }
}
