/** KeyValues: the pages on the device, what writes them and what attends over them. */
import { NibbleError } from '../../core/errors.ts';
import type { Activation, AttentionOptions, KvShape, Rope } from '../../core/model/backend.ts';
import { expectShape, type GpuActivation, impossible } from './activations.ts';
import { type AttentionPlan, attentionPlan, type PlanOptions, splitTokensFor } from './attention-plan.ts';
import type { Gpu } from './gpu.ts';
import type { Defines } from './kernel-source.ts';
import { freeBytes } from './memory-probe.ts';
import { bankPages, mostPages, type PageLayout, pageLayout } from './page-layout.ts';
import { foldGroups, type Space } from './row-ops.ts';
import type { StepInputs } from './step-inputs.ts';

export interface GpuRope extends Rope {
  /** [tokens, rotaryDim/2] f32 */
  cos: GPUBuffer;
  sin: GPUBuffer;
  step: number;
}

/** One layer's pages, cut into one or two buffers. */
interface LayerPages {
  keys: GPUBuffer[];
  values: GPUBuffer[];
}

/** A plan whose integers lie on the device. */
interface PlacedPlan {
  splitTokens: number;
  tiles: { buffer: GPUBuffer; count: number } | null;
  turns: {
    items: { buffer: GPUBuffer; count: number };
    merges: { buffer: GPUBuffer; count: number } | null;
    partials: number;
  }[];
}

export interface KeyValuesOptions {
  deterministic: boolean;
  /** Bytes that one buffer of pages may have; as many as the device binds unless told. */
  bindingBytes?: number;
  /** Kernels made for one head size, with constant loop bounds; on a real GPU unless told. Software adapters would compile them for seconds. */
  unrolled?: boolean;
}

/** More channels than any model's head has; a decode workgroup's memory holds several heads of a kv head up to here. */
const MOST_HEAD_DIM = 512;
const ROPE_THREADS = 64;
const DECODE_THREADS = 128;
const COMBINE_THREADS = 64;
const PREFILL_THREADS = 256;
/** paged_attention_prefill.wgsl's workgroup memory. */
const PREFILL_BYTES = 22 * 1024;
const PREFILL_HEAD_DIM = 256;
/** Shorter runs leave most of a prefill tile's 64 rows empty where heads share nothing. */
const PREFILL_TOKENS = 16;
/** Heads that a decode workgroup serves at most: eight leave it enough registers. */
const MOST_GROUP = 8;
const SPLITS = [256, 128, 64] as const;
/** Workgroups that fill a large GPU about twice. */
const ENOUGH_GROUPS = 256;
const MOST_PARTIAL_BYTES = 64 * 2 ** 20;
const SOFTWARE_BUDGET_BYTES = 2 ** 30;
/** Of a real GPU's free memory the share that pages do not get, and what steps need besides. */
const KEPT_SHARE = 0.1;
const STEP_BYTES = 2 ** 28;
/** Stands for no window: positions are below it. */
const ALL_POSITIONS = 2 ** 31;

export class KeyValues {
  readonly shape: KvShape;
  readonly layout: PageLayout;
  readonly #space: Space;
  readonly #layers: LayerPages[];
  /** Pages of each bank of a plane. */
  readonly #banks: number[];
  readonly #deterministic: boolean;
  readonly #unrolled: boolean;
  readonly #plans = new WeakMap<StepInputs, Map<string, PlacedPlan>>();
  readonly #slopes = new WeakMap<Float32Array, GPUBuffer>();
  readonly #noSlopes = new Map<number, Float32Array>();

  /** What is free now, less a reserve. A software adapter shares the host's memory: a fixed size there. */
  static async budgetBytes(gpu: Gpu): Promise<number> {
    if (gpu.opened.isSoftware) return SOFTWARE_BUDGET_BYTES;
    return Math.max(0, Math.floor((await freeBytes(gpu)) * (1 - KEPT_SHARE)) - STEP_BYTES);
  }

  /** Memory that the device refuses shows as `out_of_memory` at the next wait. */
  constructor(space: Space, shape: KvShape, options: KeyValuesOptions) {
    const { gpu } = space;
    const bindingBytes = options.bindingBytes ?? bindingBytesOf(gpu);
    if (shape.headDim > MOST_HEAD_DIM) {
      const reason = `the webgpu backend has attention heads of up to ${MOST_HEAD_DIM} channels, not ${shape.headDim}`;
      throw new NibbleError({ code: 'model_unsupported', file: 'webgpu', option: 'head_dim', reason });
    }
    this.#space = space;
    this.shape = shape;
    this.layout = pageLayout(shape);
    const bytes = this.layout.pageBytes * shape.pages;
    if (shape.pages > mostPages(this.layout, bindingBytes))
      throw new NibbleError({
        code: 'out_of_memory',
        what: `a layer's keys in ${shape.pages} pages, of which the device can bind ${mostPages(this.layout, bindingBytes)}`,
        bytes,
      });
    this.#banks = bankPages(this.layout, shape.pages, bindingBytes);
    this.#deterministic = options.deterministic;
    this.#unrolled = options.unrolled ?? !gpu.opened.isSoftware;
    const plane = (what: string) =>
      this.#banks.map((pages) => gpu.permanentUnwaited(pages * this.layout.pageBytes, what));
    this.#layers = Array.from({ length: shape.layers }, (_, layer) => ({
      keys: plane(`key pages of layer ${layer}`),
      values: plane(`value pages of layer ${layer}`),
    }));
  }

  /** A layer's buffers, as `layout` says. */
  pages(layer: number): LayerPages {
    const pages = this.#layers[layer];
    if (pages === undefined) throw impossible(`no key/value pages for layer ${layer}`);
    return pages;
  }

  ropeKv(step: StepInputs, layer: number, q: Activation, k: Activation, v: Activation, rope: GpuRope | null): void {
    const { gpu, activations } = this.#space;
    const { kvHeads, headDim, pageTokens } = this.shape;
    const pages = this.pages(layer);
    const { tokens } = step;
    const heads = q.cols / headDim;
    if (!Number.isInteger(heads)) throw impossible(`ropeKv: ${q.cols} columns of q in heads of ${headDim}`);
    expectShape('ropeKv: q', q, tokens, q.cols);
    expectShape('ropeKv: k', k, tokens, kvHeads * headDim);
    expectShape('ropeKv: v', v, tokens, kvHeads * headDim);
    if (rope !== null && rope.step !== activations.step)
      throw impossible('ropeKv: the rotary tables are of an earlier step');
    const rotaryDim = rope?.rotaryDim ?? 0;
    if (rotaryDim > headDim) throw impossible(`ropeKv: rotaryDim ${rotaryDim} of a head of ${headDim}`);
    this.#plansOf(step);

    const ROW = Math.max(256, 8 * this.layout.pieces);
    const kernel = gpu.kernels.get('rope_kv', { THREADS: ROPE_THREADS, ROW, ...this.#pageDefines() });
    const { pieces, blockPieces } = this.layout;
    const queryHeads = rotaryDim === 0 ? 0 : heads;
    gpu.dispatch(
      kernel,
      { tokens, queryHeads, kvHeads, headDim, rotaryDim, pieces, pageTokens, blockPieces, bankPages: this.#banks[0]! },
      [
        activations.bufferOf(q),
        activations.bufferOf(k),
        activations.bufferOf(v),
        // Without a rotation nothing reads the tables; any buffer of 4-byte words will do.
        rotaryDim === 0 ? step.slots : rope!.cos,
        rotaryDim === 0 ? step.slots : rope!.sin,
        step.slots,
        ...inTurn(pages),
      ],
      ...foldGroups(tokens * (queryHeads + 2 * kvHeads)),
    );
  }

  attention(step: StepInputs, layer: number, q: Activation, options: AttentionOptions): Activation {
    const { heads, window, softcap, alibiSlopes } = options;
    const { kvHeads, headDim } = this.shape;
    const pages = this.pages(layer);
    if (heads % kvHeads !== 0) throw impossible(`attention: ${heads} heads over ${kvHeads} kv heads`);
    if (window !== null && !(window >= 1)) throw impossible(`attention: a window of ${window} positions`);
    if (softcap !== null && !(softcap > 0)) throw impossible(`attention: scores capped at ${softcap}`);
    if (alibiSlopes !== null && alibiSlopes.length !== heads)
      throw impossible(`attention: ${alibiSlopes.length} ALiBi slopes for ${heads} heads`);
    expectShape('attention: q', q, step.tokens, heads * headDim);
    const plan = this.#plan(step, heads, window);
    const y = this.#space.activations.make(step.tokens, q.cols);
    if (plan.tiles !== null) this.#prefill(step, pages, q, y, options, plan.tiles);
    for (const turn of plan.turns) this.#decode(step, pages, q, y, options, turn);
    return y;
  }

  #prefill(
    step: StepInputs,
    pages: LayerPages,
    q: Activation,
    y: GpuActivation,
    options: AttentionOptions,
    { buffer, count }: { buffer: GPUBuffer; count: number },
  ): void {
    const { gpu, activations } = this.#space;
    const { headDim, kvHeads } = this.shape;
    const kernel = gpu.kernels.get('paged_attention_prefill', {
      WIDE: headDim > 64,
      WIDEST: headDim > 128,
      QUADS: headDim % 4 === 0,
      SOFTCAP: options.softcap !== null,
      ...this.#pageDefines(),
      ...this.#pieceDefines(),
    });
    const [keys, values, ...beyond] = inTurn(pages);
    gpu.dispatch(
      kernel,
      {
        tiles: count,
        window: Math.min(options.window ?? ALL_POSITIONS, ALL_POSITIONS),
        ...this.#common(step, options),
      },
      [activations.bufferOf(q), keys!, values!, step.pageTables, this.#slopesOf(options), buffer, y.buffer, ...beyond],
      ...foldGroups(count * kvHeads),
    );
  }

  #decode(
    step: StepInputs,
    pages: LayerPages,
    q: Activation,
    y: GpuActivation,
    options: AttentionOptions,
    { items, merges, partials }: PlacedPlan['turns'][number],
  ): void {
    const { gpu, activations } = this.#space;
    const { headDim, kvHeads } = this.shape;
    const { heads } = options;
    const { pieces } = this.layout;
    const { GROUP, headTiles } = this.#tiling(heads / kvHeads);
    const kernel = gpu.kernels.get('paged_attention_decode', {
      GROUP,
      THREADS: DECODE_THREADS,
      SPLIT: SPLITS[0],
      SOFTCAP: options.softcap !== null,
      ...this.#pageDefines(),
      ...this.#pieceDefines(),
    });
    const scratch = activations.scratch(partials * this.#partialBytes(heads));
    const [keys, values, ...beyond] = inTurn(pages);
    gpu.dispatch(
      kernel,
      { items: items.count, headTiles, ...this.#common(step, options) },
      [
        activations.bufferOf(q),
        keys!,
        values!,
        step.pageTables,
        this.#slopesOf(options),
        items.buffer,
        y.buffer,
        scratch,
        ...beyond,
      ],
      ...foldGroups(items.count * kvHeads * headTiles),
    );
    if (merges !== null) {
      const combine = gpu.kernels.get('paged_attention_combine', { THREADS: COMBINE_THREADS });
      const params = { merges: merges.count, heads, headDim, pieces };
      gpu.dispatch(combine, params, [scratch, merges.buffer, y.buffer], ...foldGroups(merges.count * heads));
    }
    activations.release(scratch);
  }

  #common(step: StepInputs, { heads, scale, softcap }: AttentionOptions) {
    const { kvHeads, headDim, pageTokens } = this.shape;
    const { pieces, blockPieces } = this.layout;
    const group = heads / kvHeads;
    const { maxPages } = step.batch;
    const bankPages = this.#banks[0]!;
    return {
      heads,
      kvHeads,
      group,
      headDim,
      pageTokens,
      maxPages,
      pieces,
      blockPieces,
      bankPages,
      scale,
      softcap: softcap ?? 0,
    };
  }

  #pageDefines(): Defines {
    const { dtype } = this.layout;
    return { F16: dtype === 'f16', INT8: dtype === 'int8', BANKED: this.#banks.length > 1 };
  }

  #pieceDefines(): Defines {
    return { UNROLLED: this.#unrolled, PIECES: this.#mostPieces() };
  }

  /** Not unrolled, one kernel serves all heads of up to 256 channels. */
  #mostPieces(): number {
    return this.#unrolled ? this.layout.pieces : Math.max(32, this.layout.pieces);
  }

  /** Heads of a kv head that a decode workgroup takes, as even as they divide, and workgroups that share a kv head's. */
  #tiling(group: number): { GROUP: number; headTiles: number } {
    const { maxComputeWorkgroupStorageSize: most } = this.#space.gpu.opened.limits;
    const fixed = 12 * SPLITS[0] + 32 * DECODE_THREADS;
    const perHead = 32 * this.#mostPieces() + 4 * SPLITS[0] + 2 * 4 * 16;
    const fitting = Math.max(1, Math.min(this.#unrolled ? MOST_GROUP : 4, Math.floor((most - fixed) / perHead)));
    const headTiles = Math.ceil(group / fitting);
    return { GROUP: this.#unrolled ? Math.ceil(group / headTiles) : fitting, headTiles };
  }

  /** Layers of one step mostly attend alike, so a plan serves them all. */
  #plan(step: StepInputs, heads: number, window: number | null): PlacedPlan {
    const plans = this.#plansOf(step);
    const key = `${heads} ${window}`;
    const known = plans.get(key);
    if (known !== undefined) return known;
    const splitTokens = this.#splitTokens(step, heads, window);
    const options: PlanOptions = {
      group: heads / this.shape.kvHeads,
      window,
      splitTokens,
      prefillTokens: this.#hasPrefill() ? PREFILL_TOKENS : null,
      mostPartials: Math.floor(MOST_PARTIAL_BYTES / this.#partialBytes(heads)),
    };
    const plan = { splitTokens, ...this.#placed(attentionPlan(step.runs, options)) };
    plans.set(key, plan);
    return plan;
  }

  #placed({ tiles, turns }: AttentionPlan): Omit<PlacedPlan, 'splitTokens'> {
    const place = ({ words, count }: { words: Uint32Array; count: number }) => ({
      buffer: this.#space.activations.upload(words),
      count,
    });
    return {
      tiles: tiles === null ? null : place(tiles),
      turns: turns.map(({ items, merges, partials }) => ({
        items: place(items),
        merges: merges === null ? null : place(merges),
        partials,
      })),
    };
  }

  #hasPrefill(): boolean {
    const { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup } = this.#space.gpu.opened.limits;
    return (
      !this.#deterministic &&
      this.shape.headDim <= PREFILL_HEAD_DIM &&
      maxComputeWorkgroupStorageSize >= PREFILL_BYTES &&
      maxComputeInvocationsPerWorkgroup >= PREFILL_THREADS
    );
  }

  /** One size for all steps where the result must not depend on the batch. */
  #splitTokens(step: StepInputs, heads: number, window: number | null): number {
    if (this.#deterministic) return SPLITS[0];
    const { kvHeads } = this.shape;
    const { headTiles } = this.#tiling(heads / kvHeads);
    const decodes = step.runs.filter(({ tokens }) => tokens < PREFILL_TOKENS);
    return splitTokensFor(decodes, window, SPLITS, ENOUGH_GROUPS / (kvHeads * headTiles));
  }

  #partialBytes(heads: number): number {
    return heads * 16 * (2 * this.layout.pieces + 1);
  }

  #slopesOf({ heads, alibiSlopes }: AttentionOptions): GPUBuffer {
    let slopes = alibiSlopes ?? this.#noSlopes.get(heads);
    if (slopes === undefined) {
      slopes = new Float32Array(heads);
      this.#noSlopes.set(heads, slopes);
    }
    const known = this.#slopes.get(slopes);
    if (known !== undefined) return known;
    const buffer = this.#space.gpu.upload(slopes);
    this.#slopes.set(slopes, buffer);
    return buffer;
  }

  /** The step's plans, after its places were checked once: the device does not, and would write over another sequence's pages. */
  #plansOf(step: StepInputs): Map<string, PlacedPlan> {
    const known = this.#plans.get(step);
    if (known !== undefined) return known;
    const { pages, pageTokens } = this.shape;
    const { slots, pageTables, maxPages, positions, sequenceOf } = step.batch;
    const slot = slots.find((slot) => !(slot >= 0 && slot < pages * pageTokens));
    if (slot !== undefined) throw impossible(`slot ${slot} of ${pages} pages of ${pageTokens} tokens`);
    for (const { position, tokens, sequence } of step.runs) {
      const used = Math.ceil((position + tokens) / pageTokens);
      const from = sequence * maxPages;
      if (used > maxPages || from + used > pageTables.length)
        throw impossible(`position ${position + tokens - 1} of sequence ${sequence} has no page`);
      for (let at = from; at < from + used; at++)
        if (!(pageTables[at]! >= 0 && pageTables[at]! < pages))
          throw impossible(`page ${pageTables[at]} of ${pages} in sequence ${sequence}`);
    }
    if (positions.length !== slots.length || sequenceOf.length !== slots.length)
      throw impossible(`${positions.length} positions and ${sequenceOf.length} sequences for ${slots.length} slots`);
    const plans = new Map<string, PlacedPlan>();
    this.#plans.set(step, plans);
    return plans;
  }
}

/** As kernels bind them: the first banks, then the second. */
function inTurn({ keys, values }: LayerPages): GPUBuffer[] {
  return keys.flatMap((buffer, bank) => [buffer, values[bank]!]);
}

function bindingBytesOf({ opened: { limits } }: Gpu): number {
  return Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
}
