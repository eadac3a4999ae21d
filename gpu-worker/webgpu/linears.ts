/** Linears: weights on the device and their products. */
import { NibbleError } from '../../core/errors.ts';
import type { Activation, ActivationFunction, Linear, LinearWeight } from '../../core/model/backend.ts';
import { type GpuActivation, impossible } from './activations.ts';
import type { GpuFeatures, MatrixShape } from './device.ts';
import type { Defines } from './kernel-source.ts';
import type { Kernel } from './kernels.ts';
import { type InputForm, LinearInputs } from './linear-inputs.ts';
import { productDefines, rowFactorDefines, VARIANTS } from './linear-kernels.ts';
import { type GemmPlan, type GemvPlan, type LinearPlan, type MatrixPlan, planLinear } from './linear-plan.ts';
import { matrixFault, TRIAL, trialValues, trialWeight } from './matrix-check.ts';
import { FUNCTION_CODES, foldGroups, gated, type Space } from './row-ops.ts';
import { neighbouringSubgroups } from './subgroup-layout.ts';
import { loadBnb4 } from './weights/bnb4.ts';
import { ChannelBuffers } from './weights/channel-buffers.ts';
import { loadGptq } from './weights/gptq.ts';
import type { GpuLinear, WeightPart } from './weights/gpu-linear.ts';
import { type JoinedLinear, joinedLinear } from './weights/join.ts';
import { expectLength, Loading } from './weights/loading.ts';
import { loadDense, loadInt8 } from './weights/rows.ts';

export interface LinearsOptions {
  /** One order of summation per output, whatever the tokens. */
  deterministic: boolean;
  /** Most bytes of a binding where the device allows more. */
  bindingBytes?: number;
  /** `none`: sums in workgroup memory where the device has subgroups. */
  subgroups?: 'none';
  /** Products by subgroup matrices: of the adapter's shape by default; another, for tests, or none. */
  matrices?: MatrixShape | 'none';
  /** Told once, in a sentence, when the adapter's subgroup matrices are given up. */
  log?: (line: string) => void;
}

/** Products by subgroup matrices: as the trial at the first load left them. */
export type Matrices =
  | { kind: 'absent' }
  | { kind: 'untried'; shape: MatrixShape }
  | { kind: 'used'; shape: MatrixShape }
  | { kind: 'broken'; reason: string };

/** f(gate) to multiply the product with. */
interface Gate {
  kind: 'gated';
  f: ActivationFunction;
  values: GPUBuffer;
}

/** What becomes of a product: linear_output.wgsl. */
type End =
  | { kind: 'plain' }
  | Gate
  /** Joined gate and up. */
  | { kind: 'pair'; f: ActivationFunction }
  /** Joined weights, so many outputs. */
  | { kind: 'apart'; count: number };

const EPILOGUE_THREADS = 256;

export class Linears {
  readonly #space: Space;
  readonly #options: LinearsOptions;
  readonly #channels = new ChannelBuffers();
  /** Known once the first weight is loaded. */
  #subgroups: GpuFeatures['subgroups'] | undefined;
  /** Members of joined weights, and where they are among them. */
  readonly #joined = new Map<Linear, { whole: JoinedLinear; index: number }>();
  #matrices: Matrices;
  #trial: Promise<void> | undefined;

  constructor(space: Space, options: LinearsOptions) {
    this.#space = space;
    this.#options = options;
    const shape = options.matrices ?? space.gpu.features.matrices;
    const isWanted = shape !== null && shape !== 'none' && !options.deterministic;
    this.#matrices = isWanted ? { kind: 'untried', shape } : { kind: 'absent' };
  }

  get matrices(): Matrices {
    return this.#matrices;
  }

  /** Repacked on the device. Throws `out_of_memory`, and `model_unsupported` when a few rows exceed the device's bindings. */
  async load(weight: LinearWeight, label: string): Promise<GpuLinear> {
    const { gpu } = this.#space;
    this.#subgroups ??= this.#options.subgroups === 'none' ? null : await neighbouringSubgroups(gpu);
    this.#trial ??= this.#tryMatrices();
    await this.#trial;
    if (weight.bias !== null) expectLength(label, 'bias', weight.bias.length, weight.outFeatures);
    const loading = new Loading(gpu, label, this.#options.bindingBytes ?? Number.POSITIVE_INFINITY);
    const linear = await this.#loadKind(loading, weight);
    if (this.#matrices.kind === 'used') await this.#addRowFactors(loading, linear);
    await loading.finish();
    return linear;
  }

  /** As the Backend's: one dispatch multiplies them from now on, where kinds and formats agree. Throws `out_of_memory`. */
  async join(weights: readonly Linear[]): Promise<void> {
    const members = weights as readonly GpuLinear[];
    if (members.some((member) => this.#joined.has(member))) return;
    const loading = new Loading(
      this.#space.gpu,
      'joined weights',
      this.#options.bindingBytes ?? Number.POSITIVE_INFINITY,
    );
    const whole = await joinedLinear(loading, members);
    if (whole === null) return;
    for (const [index, member] of members.entries()) {
      // Its buffers are the whole's.
      member.parts = [];
      this.#joined.set(member, { whole, index });
    }
  }

  /** Not int8's: its products are of integers. */
  async #addRowFactors(loading: Loading, linear: GpuLinear): Promise<void> {
    if (linear.kind === 'int8') return;
    for (const part of linear.parts) part.rowFactors = await loading.permanent(32 * Math.ceil(part.rows / 4));
    this.#fillRowFactors(linear);
  }

  #fillRowFactors(linear: GpuLinear): void {
    const { gpu } = this.#space;
    const { outFeatures: cols, chunks } = linear;
    const kernel = gpu.kernels.get(`linear_${linear.kind}`, rowFactorDefines(linear));
    for (const { rows, first, buffers, rowFactors, params } of linear.parts) {
      const all = { tokens: 0, rows, first, cols, chunks, team: 0, splitChunks: 0, ...params };
      gpu.dispatch(kernel, all, [...buffers, rowFactors!], ...foldGroups(Math.ceil(rows / 4)));
    }
  }

  /** Needs subgroups whose threads are neighbours. */
  async #tryMatrices(): Promise<void> {
    if (this.#matrices.kind !== 'untried') return;
    const { shape } = this.#matrices;
    const fault =
      this.#subgroups === null ? 'its subgroups are no neighbouring threads' : await this.#matrixFault(shape);
    this.#matrices = fault === null ? { kind: 'used', shape } : { kind: 'broken', reason: fault };
    if (fault !== null) this.#options.log?.(`subgroup matrices are not used: ${fault}`);
  }

  async #matrixFault(shape: MatrixShape): Promise<string | null> {
    const { gpu, activations } = this.#space;
    const { tokens, inFeatures, outFeatures } = TRIAL;
    const loading = new Loading(gpu, 'trial of subgroup matrices', Number.POSITIVE_INFINITY);
    const weight = await this.#loadKind(loading, trialWeight());
    await this.#addRowFactors(loading, weight);
    await loading.finish();
    const x = activations.make(tokens, inFeatures);
    const ys = [activations.make(tokens, outFeatures), activations.make(tokens, outFeatures)] as const;
    gpu.write(x.buffer, 0, trialValues(tokens * inFeatures));
    // What is not written must not pass for right, as an earlier trial's result in the same buffer would.
    gpu.write(ys[1].buffer, 0, new Float32Array(tokens * outFeatures).fill(Number.NaN));
    const fault = await matrixFault(gpu, () => {
      const inputs = new LinearInputs(this.#space, x);
      this.#multiply(x, inputs, weight, this.#plan(weight, tokens, null), [ys[0].buffer], PLAIN);
      this.#multiply(x, inputs, weight, this.#plan(weight, tokens, shape), [ys[1].buffer], PLAIN);
      inputs.release();
      return { plain: ys[0].buffer, matrices: ys[1].buffer };
    });
    for (const { buffer } of [x, ...ys]) activations.release(buffer);
    for (const { buffers, rowFactors } of weight.parts)
      for (const buffer of [...buffers, rowFactors!]) buffer.destroy();
    return fault;
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
    const names = [this.#kernel(linear, plan, PLAIN).name];
    if (plan.kind !== 'gemv' && plan.shares > 1) names.push(this.#sumKernel(linear, PLAIN).name);
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
    const whole = this.#wholeOf(weights);
    const ys =
      whole === null
        ? weights.map((weight) => this.#product(x, inputs, weight as GpuLinear, null))
        : this.#products(x, inputs, whole);
    inputs.release();
    return ys;
  }

  /** f(x · gateᵀ) · (x · upᵀ): the last two steps in the product's end, the second's where the weights are apart. */
  gated(f: ActivationFunction, x: Activation, gate: Linear, up: Linear): Activation {
    if (gate.outFeatures !== up.outFeatures)
      throw impossible(`gated: ${gate.outFeatures} gates for ${up.outFeatures} outputs`);
    const inputs = new LinearInputs(this.#space, x);
    const whole = this.#wholeOf([gate, up]);
    const y = whole === null ? this.#gatedApart(f, x, inputs, gate, up) : this.#gatedPair(f, x, inputs, whole);
    inputs.release();
    return y;
  }

  #gatedApart(f: ActivationFunction, x: Activation, inputs: LinearInputs, gate: Linear, up: Linear): GpuActivation {
    const opened = this.#product(x, inputs, gate as GpuLinear, null);
    const y = this.#product(x, inputs, up as GpuLinear, { kind: 'gated', f, values: opened.buffer });
    this.#space.activations.release(opened.buffer);
    return y;
  }

  /** One dispatch for few tokens; tiles of many have the two sums in different threads. */
  #gatedPair(f: ActivationFunction, x: Activation, inputs: LinearInputs, whole: JoinedLinear): Activation {
    const { activations } = this.#space;
    const [outFeatures] = whole.widths as [number];
    const plan = this.#plan({ ...whole, outFeatures }, x.rows);
    if (x.rows > 0 && plan.kind === 'gemv') {
      expectInputs(x, whole);
      const y = activations.make(x.rows, outFeatures);
      this.#multiply(x, inputs, whole, plan, [y.buffer], { kind: 'pair', f });
      return y;
    }
    const [gate, up] = this.#products(x, inputs, whole) as [GpuActivation, GpuActivation];
    const y = gated(this.#space, f, gate, up);
    for (const { buffer } of [gate, up]) activations.release(buffer);
    return y;
  }

  /** The joined weight that these are, all and in order. */
  #wholeOf(weights: readonly Linear[]): JoinedLinear | null {
    const whole = weights.length < 2 ? undefined : this.#joined.get(weights[0]!)?.whole;
    if (whole === undefined || whole.widths.length !== weights.length) return null;
    const isAll = weights.every((weight, i) => {
      const found = this.#joined.get(weight);
      return found?.whole === whole && found.index === i;
    });
    return isAll ? whole : null;
  }

  #products(x: Activation, inputs: LinearInputs, whole: JoinedLinear): GpuActivation[] {
    expectInputs(x, whole);
    const { activations } = this.#space;
    const ys = whole.widths.map((width) => activations.make(x.rows, width));
    const buffers = ys.map(({ buffer }) => buffer);
    if (x.rows > 0)
      this.#multiply(x, inputs, whole, this.#plan(whole, x.rows), buffers, { kind: 'apart', count: ys.length });
    return ys;
  }

  #product(x: Activation, inputs: LinearInputs, weight: GpuLinear, gate: Gate | null): GpuActivation {
    expectInputs(x, weight);
    const { activations } = this.#space;
    const joined = this.#joined.get(weight);
    if (joined !== undefined) return this.#productAlone(x, inputs, joined, gate);
    const y = activations.make(x.rows, weight.outFeatures);
    const end = gate ?? PLAIN;
    if (x.rows > 0) this.#multiply(x, inputs, weight, this.#plan(weight, x.rows), [y.buffer], end);
    return y;
  }

  /** Of a joined weight by itself: all are multiplied, since no step asks for this. */
  #productAlone(
    x: Activation,
    inputs: LinearInputs,
    { whole, index }: { whole: JoinedLinear; index: number },
    gate: Gate | null,
  ): GpuActivation {
    if (gate !== null) throw impossible('gated: a weight that was joined with another');
    const { activations } = this.#space;
    const ys = this.#products(x, inputs, whole);
    for (const [i, { buffer }] of ys.entries()) if (i !== index) activations.release(buffer);
    return ys[index]!;
  }

  #multiply(
    x: Activation,
    inputs: LinearInputs,
    weight: GpuLinear,
    plan: LinearPlan,
    ys: readonly GPUBuffer[],
    end: End,
  ): void {
    const { activations } = this.#space;
    const source = inputs.of(weight, inputForm(weight, plan));
    const kernel = this.#kernel(weight, plan, end);
    if (plan.kind !== 'gemv' && plan.shares > 1) {
      const partial = activations.scratch(4 * plan.shares * x.rows * weight.outFeatures);
      for (const part of weight.parts) this.#tiles(kernel, weight, part, plan, x.rows, [source, [partial]]);
      this.#sum(weight, plan, x.rows, partial, ys, end);
      activations.release(partial);
      return;
    }
    const ends = endBuffers(weight, ys, end);
    for (const part of weight.parts)
      if (plan.kind === 'gemv') this.#rows(kernel, weight, part, plan, x.rows, end, [source, ends]);
      else this.#tiles(kernel, weight, part, plan, x.rows, [source, ends]);
  }

  #plan(weight: GpuLinear, tokens: number, matrices = this.#usedMatrices()): LinearPlan {
    const { f16 } = this.#space.gpu.features;
    const features = { subgroups: this.#subgroups ?? null, f16, matrices };
    return planLinear(weight, tokens, features, this.#options.deterministic);
  }

  #usedMatrices(): MatrixShape | null {
    return this.#matrices.kind === 'used' ? this.#matrices.shape : null;
  }

  #kernel(weight: GpuLinear, plan: LinearPlan, end: End): Kernel {
    const isPartial = plan.kind !== 'gemv' && plan.shares > 1;
    const defines = productDefines(weight, plan, isPartial ? NO_END : endDefines(weight, end));
    return this.#space.gpu.kernels.get(`linear_${weight.kind}`, defines);
  }

  #rows(
    kernel: Kernel,
    { chunks, outFeatures }: GpuLinear,
    { first, rows, buffers, params }: WeightPart,
    { threads, team, tokens }: GemvPlan,
    count: number,
    end: End,
    [source, ends]: [GPUBuffer[], GPUBuffer[]],
  ): void {
    this.#space.gpu.dispatch(
      kernel,
      { tokens: count, rows, first, cols: outFeatures, chunks, team, splitChunks: 0, ...params },
      [...source, ...buffers, ...ends],
      Math.ceil(Math.ceil(rows / (end.kind === 'pair' ? 8 : 4)) / (threads / team)),
      Math.ceil(count / tokens),
    );
  }

  #tiles(
    kernel: Kernel,
    { chunks, outFeatures }: GpuLinear,
    { first, rows, buffers, rowFactors, params }: WeightPart,
    plan: GemmPlan | MatrixPlan,
    count: number,
    [source, ends]: [GPUBuffer[], GPUBuffer[]],
  ): void {
    const tileTokens = plan.kind === 'gemm' ? 8 * plan.threadTokens : plan.tileTokens;
    const factors = plan.kind === 'gemm' ? [] : [rowFactors!];
    this.#space.gpu.dispatch(
      kernel,
      { tokens: count, rows, first, cols: outFeatures, chunks, team: 0, splitChunks: plan.shareChunks, ...params },
      [...source, ...factors, ...buffers, ...ends],
      Math.ceil(rows / 64),
      Math.ceil(count / tileTokens),
      plan.shares,
    );
  }

  #sumKernel(weight: GpuLinear, end: End): Kernel {
    const defines = { THREADS: EPILOGUE_THREADS, ...endDefines(weight, end) };
    return this.#space.gpu.kernels.get('sum_shares', defines);
  }

  #sum(
    weight: GpuLinear,
    { shares }: GemmPlan | MatrixPlan,
    tokens: number,
    partial: GPUBuffer,
    ys: readonly GPUBuffer[],
    end: End,
  ): void {
    const cols = weight.outFeatures;
    const count = tokens * cols;
    const { end0, end1 } = weight.parts[0]!.params;
    const apart = end.kind === 'apart' ? { end0: end0!, end1: end1! } : {};
    this.#space.gpu.dispatch(
      this.#sumKernel(weight, end),
      { count, shares, tokens, rows: cols, first: 0, cols, ...apart },
      [partial, ...endBuffers(weight, ys, end)],
      ...foldGroups(Math.ceil(count / EPILOGUE_THREADS)),
    );
  }
}

/** What the kernel of a plan takes for x. */
function inputForm({ halves }: GpuLinear, plan: LinearPlan): InputForm {
  if (plan.kind === 'matrix') return { kind: 'halves', order: 0, largest: 14, tileTokens: plan.tileTokens };
  if (plan.kind === 'gemm' || !plan.halves) return { kind: 'floats' };
  return { kind: 'halves', ...halves!, tileTokens: 1 };
}

function expectInputs(x: Activation, { inFeatures }: GpuLinear): void {
  if (x.cols !== inFeatures)
    throw impossible(`linear: x is [${x.rows}, ${x.cols}] for a weight of ${inFeatures} inputs`);
}

const PLAIN: End = { kind: 'plain' };
const NO_END: Defines = { BIAS: false, GATED: false, APART: false, APART_3: false, PAIR: false };

function endDefines(weight: GpuLinear, end: End): Defines {
  const defines = { ...NO_END, BIAS: weight.bias !== null };
  switch (end.kind) {
    case 'plain':
      return defines;
    case 'gated':
      return { ...defines, GATED: true, FUNCTION: FUNCTION_CODES[end.f] };
    case 'pair':
      return { ...defines, PAIR: true, FUNCTION: FUNCTION_CODES[end.f] };
    case 'apart':
      return { ...defines, APART: true, APART_3: end.count === 3 };
    default:
      return end satisfies never;
  }
}

function endBuffers({ bias }: GpuLinear, ys: readonly GPUBuffer[], end: End): GPUBuffer[] {
  return [...ys, ...(bias === null ? [] : [bias]), ...(end.kind === 'gated' ? [end.values] : [])];
}
