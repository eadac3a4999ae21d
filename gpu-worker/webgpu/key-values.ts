/** KeyValues: the pages on the device, what writes them and what attends over them. */
import { NibbleError } from '../../core/errors.ts';
import type { Activation, AttentionOptions, KvShape, Rope } from '../../core/model/backend.ts';
import { expectShape, impossible } from './activations.ts';
import type { Gpu } from './gpu.ts';
import { freeBytes } from './memory-probe.ts';
import {
  bankSizes,
  inTurn,
  type LayerPages,
  mostPages,
  type PageLayout,
  pageDefines,
  pageLayout,
} from './page-layout.ts';
import { PagedAttention } from './paged-attention.ts';
import { foldGroups, type Space } from './row-ops.ts';
import type { StepInputs } from './step-inputs.ts';

export interface GpuRope extends Rope {
  /** [tokens, rotaryDim/2] f32 */
  cos: GPUBuffer;
  sin: GPUBuffer;
  step: number;
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
const SOFTWARE_BUDGET_BYTES = 2 ** 30;
/** Of a real GPU's free memory the share that pages do not get, and what steps need besides. */
const KEPT_SHARE = 0.1;
const STEP_BYTES = 2 ** 28;

export class KeyValues {
  readonly shape: KvShape;
  readonly layout: PageLayout;
  readonly #space: Space;
  readonly #layers: LayerPages[];
  /** Pages of each bank of a plane. */
  readonly bankPages: readonly number[];
  readonly #attention: PagedAttention;
  readonly #checked = new WeakSet<StepInputs>();

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
    this.bankPages = bankSizes(this.layout, shape.pages, bindingBytes);
    this.#attention = new PagedAttention(space, this, { unrolled: !gpu.opened.isSoftware, ...options });
    const plane = (what: string) =>
      this.bankPages.map((pages) => gpu.permanentUnwaited(pages * this.layout.pageBytes, what));
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

  /** As Backend.ropeKv: the rotary tables and the activations are of this step. */
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
    this.#check(step);

    const ROW = Math.max(256, 8 * this.layout.pieces);
    const kernel = gpu.kernels.get('rope_kv', { THREADS: ROPE_THREADS, ROW, ...pageDefines(this) });
    const { pieces, blockPieces } = this.layout;
    const queryHeads = rotaryDim === 0 ? 0 : heads;
    gpu.dispatch(
      kernel,
      {
        tokens,
        queryHeads,
        kvHeads,
        headDim,
        rotaryDim,
        pieces,
        pageTokens,
        blockPieces,
        bankPages: this.bankPages[0]!,
      },
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

  /** As Backend.attention. */
  attention(step: StepInputs, layer: number, q: Activation, options: AttentionOptions): Activation {
    const pages = this.pages(layer);
    this.#check(step);
    return this.#attention.run(step, pages, q, options);
  }

  /** That a step's places exist, once a step: the device does not check, and might write over another sequence's pages. */
  #check(step: StepInputs): void {
    if (this.#checked.has(step)) return;
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
    this.#checked.add(step);
  }
}

function bindingBytesOf({ opened: { limits } }: Gpu): number {
  return Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
}
