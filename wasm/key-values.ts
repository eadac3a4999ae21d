/** Key/values: the paged keys and values of every layer, and the two ops that write and read them. */
import type { Activation, AttentionOptions, KvDtype, KvShape, Rope } from '../core/model/backend.ts';
import { floatBits } from './kernels.ts';
import { expectLength, expectShape, impossible, type WasmRope } from './tensors.ts';
import type { Workspace } from './workspace.ts';

/** One layer's pages, each [pages, kvHeads, pageTokens, stride] of the dtype, and int8's scales [pages, kvHeads, pageTokens] f32. */
interface LayerPages {
  keys: number;
  values: number;
  keyScales: number;
  valueScales: number;
}

/** assembly/key_value.ts's number, and bytes of a value. */
const DTYPES: Record<KvDtype, { code: number; bytes: number }> = {
  f32: { code: 0, bytes: 4 },
  f16: { code: 1, bytes: 2 },
  int8: { code: 2, bytes: 1 },
};
/** A kernel loads up to 32 channels at once, also where a head has fewer. */
const READ_BEYOND_BYTES = 128;

const roundUp = (count: number, step: number) => Math.ceil(count / step) * step;

export class KeyValues {
  readonly shape: KvShape;
  readonly #space: Workspace;
  readonly #layers: LayerPages[];

  constructor(space: Workspace, shape: KvShape) {
    const rows = shape.pages * shape.pageTokens * shape.kvHeads;
    const planeBytes = rows * roundUp(shape.headDim, 4) * DTYPES[shape.dtype].bytes;
    this.#space = space;
    this.shape = shape;
    const scales = (label: string) => (shape.dtype === 'int8' ? space.memory.permanent(rows * 4, label) : 0);
    this.#layers = Array.from({ length: shape.layers }, (_, layer) => ({
      keys: space.memory.permanent(planeBytes + READ_BEYOND_BYTES, `key pages of layer ${layer}`),
      values: space.memory.permanent(planeBytes + READ_BEYOND_BYTES, `value pages of layer ${layer}`),
      keyScales: scales(`key scales of layer ${layer}`),
      valueScales: scales(`value scales of layer ${layer}`),
    }));
  }

  ropeKv(layer: number, q: Activation, k: Activation, v: Activation, rope: Rope | null): void {
    const { keys, values, keyScales, valueScales } = this.#pages(layer);
    const { tokens, slots } = this.#space.batch();
    const { kvHeads, headDim, pageTokens, dtype } = this.shape;
    const { cos, sin, rotaryDim } = this.#rotary(rope);
    expectShape('ropeKv: q', q, tokens, headDim * Math.floor(q.cols / headDim));
    expectShape('ropeKv: k', k, tokens, kvHeads * headDim);
    expectShape('ropeKv: v', v, tokens, kvHeads * headDim);
    const space = this.#space;
    space.team.run(
      'rope_kv',
      space.addressOf(q),
      space.addressOf(k),
      space.addressOf(v),
      cos,
      sin,
      slots,
      keys,
      values,
      keyScales,
      valueScales,
      tokens,
      q.cols / headDim,
      kvHeads,
      headDim,
      rotaryDim / 2,
      pageTokens,
      DTYPES[dtype].code,
    );
  }

  attention(layer: number, q: Activation, options: AttentionOptions): Activation {
    const { heads, scale, window, softcap, alibiSlopes } = options;
    const { keys, values, keyScales, valueScales } = this.#pages(layer);
    const { kvHeads, headDim, pageTokens, dtype } = this.shape;
    const { tokens, positions, sequenceOf, pageTables, contextTokens, source } = this.#space.batch();
    if (heads % kvHeads !== 0) throw impossible(`attention: ${heads} heads over ${kvHeads} kv heads`);
    if (window !== null && !(window >= 1)) throw impossible(`attention: a window of ${window} positions`);
    if (softcap !== null && !(softcap > 0)) throw impossible(`attention: scores capped at ${softcap}`);
    if (alibiSlopes !== null) expectLength('attention', 'alibiSlopes', alibiSlopes.length, heads);
    expectShape('attention: q', q, tokens, heads * headDim);
    const from = this.#space.addressOf(q);
    const y = this.#space.activation(tokens, q.cols);
    const { memory, team } = this.#space;
    const mark = memory.mark;
    const seen = Math.min(contextTokens, window ?? contextTokens);
    const scoreStride = roundUp(seen + 3, 4) + 8;
    // All heads: a step may be left to one thread.
    const scratchRows = Math.max(4, heads);
    const scratch = memory.scratch(team.threads * scratchRows * (roundUp(headDim, 32) + scoreStride) * 4);
    // assembly/attention_fours.ts
    const capacity = contextTokens + 1;
    const gatheredBytes = team.threads * capacity * (roundUp(headDim, 4) + roundUp(headDim, 8)) * 4;
    const gathered =
      tokens >= 4 && dtype !== 'int8' && this.#space.variant === 'relaxed' ? memory.scratch(gatheredBytes) : 0;
    const slopes = alibiSlopes === null ? 0 : this.#space.placeFloats(alibiSlopes);
    team.run(
      'attention',
      from,
      keys,
      values,
      keyScales,
      valueScales,
      positions,
      sequenceOf,
      pageTables,
      slopes,
      scratch,
      y.address,
      tokens,
      heads,
      kvHeads,
      headDim,
      pageTokens,
      source.maxPages,

      floatBits(scale),
      seen,
      floatBits(softcap ?? Number.POSITIVE_INFINITY),
      scoreStride,
      scratchRows,
      DTYPES[dtype].code,
      gathered,
      capacity,
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
