/** Key/values: the paged keys and values of every layer, and the two ops that write and read them. */
import type { Activation, AttentionOptions, KvShape, Rope } from '../core/model/backend.ts';
import { expectLength, expectShape, impossible, type WasmRope } from './tensors.ts';
import type { Workspace } from './workspace.ts';

/** One layer's pages, each [pages, kvHeads, pageTokens, headDim] f32. */
interface LayerPages {
  keys: number;
  values: number;
}

export class KeyValues {
  readonly shape: KvShape;
  readonly #space: Workspace;
  readonly #layers: LayerPages[];

  constructor(space: Workspace, shape: KvShape) {
    const planeBytes = shape.pages * shape.pageTokens * shape.kvHeads * shape.headDim * 4;
    this.#space = space;
    this.shape = shape;
    this.#layers = Array.from({ length: shape.layers }, (_, layer) => ({
      keys: space.memory.permanent(planeBytes, `key pages of layer ${layer}`),
      values: space.memory.permanent(planeBytes, `value pages of layer ${layer}`),
    }));
  }

  ropeKv(layer: number, q: Activation, k: Activation, v: Activation, rope: Rope | null): void {
    const pages = this.#pages(layer);
    const { tokens, slots } = this.#space.batch();
    const { kvHeads, headDim, pageTokens } = this.shape;
    const { cos, sin, rotaryDim } = this.#rotary(rope);
    expectShape('ropeKv: q', q, tokens, headDim * Math.floor(q.cols / headDim));
    expectShape('ropeKv: k', k, tokens, kvHeads * headDim);
    expectShape('ropeKv: v', v, tokens, kvHeads * headDim);
    this.#space.kernels.rope_kv(
      this.#space.addressOf(q),
      this.#space.addressOf(k),
      this.#space.addressOf(v),
      cos,
      sin,
      slots,
      pages.keys,
      pages.values,
      tokens,
      q.cols / headDim,
      kvHeads,
      headDim,
      rotaryDim / 2,
      pageTokens,
    );
  }

  attention(layer: number, q: Activation, options: AttentionOptions): Activation {
    const { heads, scale, window, softcap, alibiSlopes } = options;
    const pages = this.#pages(layer);
    const { kvHeads, headDim, pageTokens } = this.shape;
    const { tokens, positions, sequenceOf, pageTables, contextTokens, source } = this.#space.batch();
    if (heads % kvHeads !== 0) throw impossible(`attention: ${heads} heads over ${kvHeads} kv heads`);
    if (window !== null && !(window >= 1)) throw impossible(`attention: a window of ${window} positions`);
    if (softcap !== null && !(softcap > 0)) throw impossible(`attention: scores capped at ${softcap}`);
    if (alibiSlopes !== null) expectLength('attention', 'alibiSlopes', alibiSlopes.length, heads);
    expectShape('attention: q', q, tokens, heads * headDim);
    const from = this.#space.addressOf(q);
    const y = this.#space.activation(tokens, q.cols);
    const { memory } = this.#space;
    const mark = memory.mark;
    const seen = Math.min(contextTokens, window ?? contextTokens);
    const scores = memory.step(Math.ceil(seen / 4) * 16);
    this.#space.kernels.attention(
      from,
      pages.keys,
      pages.values,
      positions,
      sequenceOf,
      pageTables,
      alibiSlopes === null ? 0 : this.#space.placeFloats(alibiSlopes),
      scores,
      y.address,
      tokens,
      heads,
      kvHeads,
      headDim,
      pageTokens,
      source.maxPages,
      scale,
      seen,
      softcap ?? Number.POSITIVE_INFINITY,
    );
    memory.release(mark);
    return y;
  }

  #pages(layer: number): LayerPages {
    const pages = this.#layers[layer];
    if (pages === undefined) throw impossible(`no key/value pages for layer ${layer}`);
    return pages;
  }

  /** Nothing rotates: no channels, and so no tables. */
  #rotary(rope: Rope | null): { cos: number; sin: number; rotaryDim: number } {
    if (rope === null) return { cos: 0, sin: 0, rotaryDim: 0 };
    const own = rope as WasmRope;
    if (own.step !== this.#space.step) throw impossible('ropeKv: the rotary tables are of an earlier step');
    if (own.rotaryDim > this.shape.headDim)
      throw impossible(`ropeKv: rotaryDim ${own.rotaryDim} of a head of ${this.shape.headDim}`);
    return own;
  }
}
