/** PagedAttention: attention of a step's tokens over paged keys and values, by the prefill kernel and the decode kernel. */
import type { Activation, AttentionOptions } from '../../core/model/backend.ts';
import { expectShape, type GpuActivation, impossible } from './activations.ts';
import { type AttentionPlan, attentionPlan, type PlanOptions, splitTokensFor } from './attention-plan.ts';
import type { Defines } from './kernel-source.ts';
import { inTurn, type LayerPages, type PlacedPages, pageDefines } from './page-layout.ts';
import { foldGroups, type Space } from './row-ops.ts';
import type { StepInputs } from './step-inputs.ts';

/** A plan whose integers lie on the device. */
interface PlacedPlan {
  tiles: { buffer: GPUBuffer; count: number } | null;
  turns: {
    items: { buffer: GPUBuffer; count: number };
    merges: { buffer: GPUBuffer; count: number } | null;
    partials: number;
  }[];
}

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
/** Stands for no window: positions are below it. */
const ALL_POSITIONS = 2 ** 31;

/** `unrolled`: kernels made for one head size, with constant loop bounds, which software adapters would compile for seconds. */
interface PagedAttentionOptions {
  deterministic: boolean;
  unrolled: boolean;
}

export class PagedAttention {
  readonly #space: Space;
  readonly #kv: PlacedPages;
  readonly #options: PagedAttentionOptions;
  readonly #plans = new WeakMap<StepInputs, Map<string, PlacedPlan>>();
  readonly #slopes = new WeakMap<Float32Array, GPUBuffer>();
  readonly #noSlopes = new Map<number, Float32Array>();

  constructor(space: Space, kv: PlacedPages, options: PagedAttentionOptions) {
    this.#space = space;
    this.#kv = kv;
    this.#options = options;
  }

  /** y [tokens, heads·headDim] of the tokens of a step whose places were checked. */
  run(step: StepInputs, pages: LayerPages, q: Activation, options: AttentionOptions): Activation {
    const { heads, window, softcap, alibiSlopes } = options;
    const { kvHeads, headDim } = this.#kv.shape;
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
    const { headDim, kvHeads } = this.#kv.shape;
    const kernel = gpu.kernels.get('paged_attention_prefill', {
      WIDE: headDim > 64,
      WIDEST: headDim > 128,
      QUADS: headDim % 4 === 0,
      SOFTCAP: options.softcap !== null,
      ...pageDefines(this.#kv),
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
    const { headDim, kvHeads } = this.#kv.shape;
    const { heads } = options;
    const { pieces } = this.#kv.layout;
    const { GROUP, headTiles } = this.#tiling(heads / kvHeads);
    const kernel = gpu.kernels.get('paged_attention_decode', {
      GROUP,
      THREADS: DECODE_THREADS,
      SPLIT: SPLITS[0],
      SOFTCAP: options.softcap !== null,
      ...pageDefines(this.#kv),
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
    const { kvHeads, headDim, pageTokens } = this.#kv.shape;
    const { pieces, blockPieces } = this.#kv.layout;
    const group = heads / kvHeads;
    const { maxPages } = step.batch;
    const bankPages = this.#kv.bankPages[0]!;
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

  #pieceDefines(): Defines {
    return { UNROLLED: this.#options.unrolled, PIECES: this.#mostPieces() };
  }

  /** Not unrolled, one kernel serves all heads of up to 256 channels. */
  #mostPieces(): number {
    return this.#options.unrolled ? this.#kv.layout.pieces : Math.max(32, this.#kv.layout.pieces);
  }

  /** Heads of a kv head that a decode workgroup takes, as even as they divide, and workgroups that share a kv head's. */
  #tiling(group: number): { GROUP: number; headTiles: number } {
    const { maxComputeWorkgroupStorageSize: most } = this.#space.gpu.opened.limits;
    const fixed = 12 * SPLITS[0] + 32 * DECODE_THREADS;
    const perHead = 32 * this.#mostPieces() + 4 * SPLITS[0] + 2 * 4 * 16;
    const fitting = Math.max(
      1,
      Math.min(this.#options.unrolled ? MOST_GROUP : 4, Math.floor((most - fixed) / perHead)),
    );
    const headTiles = Math.ceil(group / fitting);
    return { GROUP: this.#options.unrolled ? Math.ceil(group / headTiles) : fitting, headTiles };
  }

  /** Layers of one step mostly attend alike, so a plan serves them all. */
  #plan(step: StepInputs, heads: number, window: number | null): PlacedPlan {
    const plans = this.#plans.get(step) ?? new Map<string, PlacedPlan>();
    this.#plans.set(step, plans);
    const key = `${heads} ${window}`;
    const known = plans.get(key);
    if (known !== undefined) return known;
    const options: PlanOptions = {
      group: heads / this.#kv.shape.kvHeads,
      window,
      splitTokens: this.#splitTokens(step, heads, window),
      prefillTokens: this.#hasPrefill() ? PREFILL_TOKENS : null,
      mostPartials: Math.floor(MOST_PARTIAL_BYTES / this.#partialBytes(heads)),
    };
    const plan = this.#placed(attentionPlan(step.runs, options));
    plans.set(key, plan);
    return plan;
  }

  #placed({ tiles, turns }: AttentionPlan): PlacedPlan {
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
      !this.#options.deterministic &&
      this.#kv.shape.headDim <= PREFILL_HEAD_DIM &&
      maxComputeWorkgroupStorageSize >= PREFILL_BYTES &&
      maxComputeInvocationsPerWorkgroup >= PREFILL_THREADS
    );
  }

  /** One size for all steps where the result must not depend on the batch. */
  #splitTokens(step: StepInputs, heads: number, window: number | null): number {
    if (this.#options.deterministic) return SPLITS[0];
    const { kvHeads } = this.#kv.shape;
    const { headTiles } = this.#tiling(heads / kvHeads);
    const decodes = step.runs.filter(({ tokens }) => tokens < PREFILL_TOKENS);
    return splitTokensFor(decodes, window, SPLITS, ENOUGH_GROUPS / (kvHeads * headTiles));
  }

  #partialBytes(heads: number): number {
    return heads * 16 * (2 * this.#kv.layout.pieces + 1);
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
}
