/** LayerPass: one step's way through decoder layers: norms, attention, mlp. */
import type { Architecture, LayerAttention } from './architecture.ts';
import type { Activation, Backend, Batch, Rope } from './backend.ts';
import { normOf, type ResidualStream } from './residual-stream.ts';
import { type RopeOptions, ropeTables } from './rope.ts';
import { spent } from './spent.ts';
import type { LayerWeights, Norm, QueryKeyValue } from './weights.ts';

/** The rotary options of a model's layers, each once; layers share those that are the same value. */
export function ropesOf({ layerAttention }: Architecture): readonly RopeOptions[] {
  return [...new Set(layerAttention.map(({ rope }) => rope).filter((rope) => rope !== null))];
}

/** Made after the backend has begun the batch, for that step only. `ropes`: those that its layers will ask for. */
export class LayerPass {
  readonly #config: Architecture;
  readonly #backend: Backend;
  readonly #ropes: ReadonlyMap<RopeOptions, Rope>;

  constructor(config: Architecture, backend: Backend, batch: Batch, ropes: readonly RopeOptions[]) {
    this.#config = config;
    this.#backend = backend;
    const tables = ropes.map((options): [RopeOptions, Rope] => {
      const { cos, sin } = ropeTables(options, batch);
      return [options, backend.rope(cos, sin, options.rotaryDim)];
    });
    this.#ropes = new Map(tables);
  }

  /** Takes the stream through layer `index`. */
  run(index: number, layer: LayerWeights, stream: ResidualStream): void {
    this.#run(index, layer, stream, null);
  }

  /** The same for the model's last layer: all tokens' keys and values are kept, but only `rows`, at least one, come out, in their order. */
  runLast(index: number, layer: LayerWeights, stream: ResidualStream, rows: Int32Array): void {
    const { rows: tokens } = stream.value();
    const areAll = rows.length === tokens && rows.every((row, i) => row === i);
    this.#run(index, layer, stream, areAll ? null : rows);
  }

  /** The same when none comes out: keys and values are all that a later step needs. The stream stays as it is. */
  cache(index: number, layer: LayerWeights, stream: ResidualStream): void {
    const { placement } = this.#config;
    if (placement === 'post') this.#backend.free(this.#cached(index, layer, stream.value()));
    else this.#backend.free(this.#spent(stream.normed(layer.norms.attention), (x) => this.#cached(index, layer, x)));
  }

  /** rows: null for all. */
  #run(index: number, layer: LayerWeights, stream: ResidualStream, rows: Int32Array | null): void {
    const { norms } = layer;
    const attend = (x: Activation) => this.#attend(index, layer, x, rows);
    const mlp = (x: Activation) => this.#mlp(layer, x);
    const { placement } = this.#config;
    switch (placement) {
      case 'pre': {
        const attended = this.#spent(stream.normed(norms.attention), attend);
        if (rows !== null) stream.keep(rows);
        stream.add(attended);
        stream.add(this.#spent(stream.normed(norms.mlp), mlp));
        return;
      }
      case 'sandwich': {
        const attended = this.#spent(stream.normed(norms.attention), attend);
        if (rows !== null) stream.keep(rows);
        stream.add(this.#spent(attended, (x) => this.#normed(x, norms.outputs!.attention)));
        const mixed = this.#spent(stream.normed(norms.mlp), mlp);
        stream.add(this.#spent(mixed, (x) => this.#normed(x, norms.outputs!.mlp)));
        return;
      }
      case 'post': {
        const attended = attend(stream.value());
        if (rows !== null) stream.keep(rows);
        stream.add(attended);
        stream.replace(stream.normed(norms.attention));
        stream.add(mlp(stream.value()));
        stream.replace(stream.normed(norms.mlp));
        return;
      }
      case 'parallel': {
        const x = stream.normed(norms.attention);
        const h = norms.mlp === norms.attention ? x : stream.normed(norms.mlp);
        const attended = attend(x);
        if (h !== x) this.#backend.free(x);
        if (rows !== null) stream.keep(rows);
        stream.add(attended);
        stream.add(this.#spent(this.#kept(h, rows), mlp));
        return;
      }
      default:
        placement satisfies never;
    }
  }

  /** Those rows of x, which is freed. rows: null for all. */
  #kept(x: Activation, rows: Int32Array | null): Activation {
    return rows === null ? x : this.#spent(x, (all) => this.#backend.gatherRows(all, rows));
  }

  /** x [tokens, hidden] → the queries [tokens, heads·headDim]; keys and values are in their pages then. */
  #cached(index: number, layer: LayerWeights, x: Activation): Activation {
    const { rope }: LayerAttention = this.#config.layerAttention[index]!;
    const { query, key, value } = this.#queryKeyValue(layer, x);
    this.#backend.ropeKv(index, query, key, value, rope === null ? null : this.#ropes.get(rope)!);
    this.#backend.free(key);
    this.#backend.free(value);
    return query;
  }

  /** x [tokens, hidden] → [tokens or rows, hidden] */
  #attend(index: number, layer: LayerWeights, x: Activation, rows: Int32Array | null): Activation {
    const [backend, config] = [this.#backend, this.#config];
    const { heads, attentionScale: scale, attentionSoftcap: softcap, alibiSlopes } = config;
    const { window }: LayerAttention = config.layerAttention[index]!;
    const query = this.#cached(index, layer, x);
    const attended = backend.attention(index, query, { heads, scale, window, softcap, alibiSlopes });
    backend.free(query);
    return this.#spent(this.#kept(attended, rows), (x) => backend.linear(x, layer.attentionOutput));
  }

  #queryKeyValue({ queryKeyValue: weights, norms }: LayerWeights, x: Activation) {
    const { query, key, value } = this.#projected(weights, x);
    if (norms.heads === null) return { query, key, value };
    return { query: this.#headNormed(query, norms.heads.query), key: this.#headNormed(key, norms.heads.key), value };
  }

  #projected(weights: QueryKeyValue, x: Activation) {
    const backend = this.#backend;
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
    const { headDim } = this.#config;
    const byHead = this.#backend.reshape(x, (x.rows * x.cols) / headDim, headDim);
    return this.#backend.reshape(
      this.#spent(byHead, (heads) => this.#normed(heads, norm)),
      x.rows,
      x.cols,
    );
  }

  /** x [tokens, hidden] → [tokens, hidden] */
  #mlp({ mlp }: LayerWeights, x: Activation): Activation {
    const backend = this.#backend;
    const { activation, intermediate: count } = this.#config;
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

  #spent(x: Activation, f: (x: Activation) => Activation): Activation {
    return spent(this.#backend, x, f);
  }

  #normed(x: Activation, norm: Norm): Activation {
    return normOf(x, norm, this.#config.norm, this.#backend);
  }
}
