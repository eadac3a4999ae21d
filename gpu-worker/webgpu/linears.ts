/** Linears: weights on the device and their products. */
import { NibbleError } from '../../core/errors.ts';
import type { Activation, ActivationFunction, Linear, LinearWeight } from '../../core/model/backend.ts';
import { type GpuActivation, impossible } from './activations.ts';
import type { GpuFeatures } from './device.ts';
import type { Defines } from './kernel-source.ts';
import type { Kernel } from './kernels.ts';
import { LinearInputs } from './linear-inputs.ts';
import { type GemmPlan, type GemvPlan, type LinearPlan, planLinear } from './linear-plan.ts';
import { FUNCTION_CODES, foldGroups, type Space } from './row-ops.ts';
import { neighbouringSubgroups } from './subgroup-layout.ts';
import { loadBnb4 } from './weights/bnb4.ts';
import { ChannelBuffers } from './weights/channel-buffers.ts';
import { loadGptq } from './weights/gptq.ts';
import type { GpuLinear, WeightPart } from './weights/gpu-linear.ts';
import { expectLength, Loading } from './weights/loading.ts';
import { loadDense, loadInt8 } from './weights/rows.ts';

export interface LinearsOptions {
  /** One order of summation per output, whatever the tokens. */
  deterministic: boolean;
  /** Most bytes of a binding where the device allows more. */
  bindingBytes?: number;
  /** `none`: sums in workgroup memory where the device has subgroups. */
  subgroups?: 'none';
}

/** f(gate) to multiply the product with. */
interface Gate {
  f: ActivationFunction;
  values: GPUBuffer;
}

const EPILOGUE_THREADS = 256;

export class Linears {
  readonly #space: Space;
  readonly #options: LinearsOptions;
  readonly #channels = new ChannelBuffers();
  /** Known once the first weight is loaded. */
  #subgroups: GpuFeatures['subgroups'] | undefined;

  constructor(space: Space, options: LinearsOptions) {
    this.#space = space;
    this.#options = options;
  }

  /** Repacked on the device. Throws `out_of_memory`, and `model_unsupported` when a few rows exceed the device's bindings. */
  async load(weight: LinearWeight, label: string): Promise<GpuLinear> {
    const { gpu } = this.#space;
    this.#subgroups ??= this.#options.subgroups === 'none' ? null : await neighbouringSubgroups(gpu);
    if (weight.bias !== null) expectLength(label, 'bias', weight.bias.length, weight.outFeatures);
    const loading = new Loading(gpu, label, this.#options.bindingBytes ?? Number.POSITIVE_INFINITY);
    const linear = await this.#loadKind(loading, weight);
    await loading.finish();
    return linear;
  }

  #loadKind(loading: Loading, weight: LinearWeight): Promise<GpuLinear> {
    switch (weight.kind) {
      case 'dense':
        return loadDense(loading, weight);
      case 'gptq':
        return loadGptq(loading, this.#channels, weight);
      case 'bnb4':
        return loadBnb4(loading, weight);
      case 'int8':
        return loadInt8(loading, weight);
      default:
        return weight satisfies never;
    }
  }

  /** For benches: the kernels that a product of so many tokens runs, by their profile names. */
  kernelNames(weight: Linear, tokens: number): string[] {
    const linear = weight as GpuLinear;
    const plan = this.#plan(linear, tokens);
    const names = [this.#kernel(linear, plan, null).name];
    if (plan.kind === 'gemm' && plan.shares > 1) names.push(this.#sumKernel(linear, null).name);
    return names;
  }

  /** Rows of a dense or gptq table by id, times scale. */
  embed(table: Linear, ids: Int32Array, scale: number): Activation {
    const { gpu, activations } = this.#space;
    const { kind, inFeatures, outFeatures, chunks, defines, parts, input } = table as GpuLinear;
    if (kind !== 'dense' && kind !== 'gptq') {
      const reason = 'the webgpu backend embeds from dense and gptq tables only';
      throw new NibbleError({ code: 'model_unsupported', file: 'embedding table', option: kind, reason });
    }
    const outside = ids.find((id) => id < 0 || id >= outFeatures);
    if (outside !== undefined) throw impossible(`embed: id ${outside} of a table of ${outFeatures} rows`);
    const y = activations.make(ids.length, inFeatures);
    const channels = input.kind === 'channels' ? input.channels : null;
    const kernel = gpu.kernels.get(`embed_${kind}`, {
      THREADS: EPILOGUE_THREADS,
      TILED: true,
      HALVES: false,
      PERMUTED: channels !== null,
      ...VARIANTS[kind],
      ...defines,
    });
    const onDevice = activations.upload(ids);
    for (const { first, rows, buffers, params } of parts)
      gpu.dispatch(
        kernel,
        { tokens: ids.length, rows, first, inFeatures, chunks, factor: scale, ...params },
        [onDevice, y.buffer, ...(channels === null ? [] : [channels]), ...buffers],
        ...foldGroups(Math.ceil((ids.length * chunks * 4) / EPILOGUE_THREADS)),
      );
    return y;
  }

  /** Each weight's product with x; what the weights want of x in common is made once. */
  run(x: Activation, weights: readonly Linear[]): Activation[] {
    const inputs = new LinearInputs(this.#space, x);
    const ys = weights.map((weight) => this.#product(x, inputs, weight as GpuLinear, null));
    inputs.release();
    return ys;
  }

  /** f(x · gateᵀ) · (x · upᵀ), the last two steps in the second product's end. */
  gated(f: ActivationFunction, x: Activation, gate: Linear, up: Linear): Activation {
    if (gate.outFeatures !== up.outFeatures)
      throw impossible(`gated: ${gate.outFeatures} gates for ${up.outFeatures} outputs`);
    const inputs = new LinearInputs(this.#space, x);
    const opened = this.#product(x, inputs, gate as GpuLinear, null);
    const y = this.#product(x, inputs, up as GpuLinear, { f, values: opened.buffer });
    inputs.release();
    this.#space.activations.release(opened.buffer);
    return y;
  }

  #product(x: Activation, inputs: LinearInputs, weight: GpuLinear, gate: Gate | null): GpuActivation {
    if (x.cols !== weight.inFeatures)
      throw impossible(`linear: x is [${x.rows}, ${x.cols}] for a weight of ${weight.inFeatures} inputs`);
    const { activations } = this.#space;
    const y = activations.make(x.rows, weight.outFeatures);
    if (x.rows === 0) return y;
    const plan = this.#plan(weight, x.rows);
    const source = inputs.of(weight, plan.kind === 'gemv' && plan.halves ? 'halves' : 'floats');
    const kernel = this.#kernel(weight, plan, gate);
    if (plan.kind === 'gemm' && plan.shares > 1) {
      const partial = activations.scratch(4 * plan.shares * x.rows * weight.outFeatures);
      for (const part of weight.parts) this.#tiles(kernel, weight, part, plan, x.rows, [source, [partial]]);
      this.#sum(weight, plan, x.rows, partial, y, gate);
      activations.release(partial);
      return y;
    }
    const ends = [y.buffer, ...(weight.bias === null ? [] : [weight.bias]), ...(gate === null ? [] : [gate.values])];
    for (const part of weight.parts)
      if (plan.kind === 'gemm') this.#tiles(kernel, weight, part, plan, x.rows, [source, ends]);
      else this.#rows(kernel, weight, part, plan, x.rows, [source, ends]);
    return y;
  }

  #plan(weight: GpuLinear, tokens: number): LinearPlan {
    const { f16 } = this.#space.gpu.features;
    return planLinear(weight, tokens, { subgroups: this.#subgroups ?? null, f16 }, this.#options.deterministic);
  }

  #kernel(weight: GpuLinear, plan: LinearPlan, gate: Gate | null): Kernel {
    const isPartial = plan.kind === 'gemm' && plan.shares > 1;
    return this.#space.gpu.kernels.get(`linear_${weight.kind}`, {
      ...VARIANTS[weight.kind],
      ...weight.defines,
      ...(isPartial ? NO_END : endDefines(weight, gate)),
      ...(plan.kind === 'gemm'
        ? {
            TILED: true,
            HALVES: false,
            THREADS: 64,
            TILE_M: 8 * plan.threadTokens,
            THREAD_M: plan.threadTokens,
            ...threadTokens(plan),
          }
        : {
            TILED: false,
            THREADS: plan.threads,
            TOKENS: plan.tokens,
            ...piecesOf(weight, plan),
            SUBGROUPS: plan.subgroups !== 'none',
            JOIN: plan.subgroups === 'join',
            INTEGERS: weight.kind === 'int8',
            HALVES: plan.halves,
          }),
    });
  }

  #rows(
    kernel: Kernel,
    { chunks, outFeatures }: GpuLinear,
    { first, rows, buffers, params }: WeightPart,
    { threads, team, tokens }: GemvPlan,
    count: number,
    [source, ends]: [GPUBuffer[], GPUBuffer[]],
  ): void {
    this.#space.gpu.dispatch(
      kernel,
      { tokens: count, rows, first, cols: outFeatures, chunks, team, splitChunks: 0, ...params },
      [...source, ...buffers, ...ends],
      Math.ceil(Math.ceil(rows / 4) / (threads / team)),
      Math.ceil(count / tokens),
    );
  }

  #tiles(
    kernel: Kernel,
    { chunks, outFeatures }: GpuLinear,
    { first, rows, buffers, params }: WeightPart,
    { threadTokens, shares, shareChunks }: GemmPlan,
    count: number,
    [source, ends]: [GPUBuffer[], GPUBuffer[]],
  ): void {
    this.#space.gpu.dispatch(
      kernel,
      { tokens: count, rows, first, cols: outFeatures, chunks, team: 0, splitChunks: shareChunks, ...params },
      [...source, ...buffers, ...ends],
      Math.ceil(rows / 64),
      Math.ceil(count / (8 * threadTokens)),
      shares,
    );
  }

  #sumKernel(weight: GpuLinear, gate: Gate | null): Kernel {
    const defines = { THREADS: EPILOGUE_THREADS, ...endDefines(weight, gate) };
    return this.#space.gpu.kernels.get('sum_shares', defines);
  }

  #sum(
    weight: GpuLinear,
    { shares }: GemmPlan,
    tokens: number,
    partial: GPUBuffer,
    y: GpuActivation,
    gate: Gate | null,
  ): void {
    const cols = weight.outFeatures;
    const count = tokens * cols;
    this.#space.gpu.dispatch(
      this.#sumKernel(weight, gate),
      { count, shares, tokens, rows: cols, first: 0, cols },
      [partial, y.buffer, ...(weight.bias === null ? [] : [weight.bias]), ...(gate === null ? [] : [gate.values])],
      ...foldGroups(Math.ceil(count / EPILOGUE_THREADS)),
    );
  }
}

/** Every name that a kind's sources ask for; a weight's own defines turn some on. */
const VARIANTS: Readonly<Record<LinearWeight['kind'], Defines>> = {
  dense: { BNB4: false, THRESHOLD: false, DTYPE_F32: false, DTYPE_F16: false, DTYPE_BF16: false },
  gptq: { BNB4: false, THRESHOLD: false, BITS_2: false, BITS_3: false, BITS_4: false, BITS_8: false },
  bnb4: { BNB4: true, THRESHOLD: false },
  int8: { BNB4: false, THRESHOLD: true },
};

const NO_END: Defines = { BIAS: false, GATED: false };

function endDefines(weight: GpuLinear, gate: Gate | null): Defines {
  const gated: Defines = gate === null ? { GATED: false } : { GATED: true, FUNCTION: FUNCTION_CODES[gate.f] };
  return { BIAS: weight.bias !== null, ...gated };
}

/** How many pieces of a thread's share there are, and how many of them are written out in the source. */
function piecesOf({ pieces }: GpuLinear, { tokens, halves }: GemvPlan): Defines {
  const count = halves ? pieces / 2 : pieces;
  return { PIECES: count, UNROLLED: tokens <= 2 ? count : Math.min(2, count) };
}

function threadTokens({ threadTokens }: GemmPlan): Defines {
  return { THREAD_M_2: threadTokens === 2, THREAD_M_4: threadTokens === 4, THREAD_M_8: threadTokens === 8 };
}
