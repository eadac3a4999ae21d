/** Linears: weights on the device and their products. */
import { NibbleError } from '../../core/errors.ts';
import type { Activation, ActivationFunction, Linear, LinearWeight } from '../../core/model/backend.ts';
import { type GpuActivation, impossible } from './activations.ts';
import type { GpuFeatures, MatrixShape } from './device.ts';
import { type End, PLAIN } from './linear-ends.ts';
import { LinearInputs } from './linear-inputs.ts';
import { VARIANTS } from './linear-kernels.ts';
import { type LinearPlan, planLinear } from './linear-plan.ts';
import { addRowFactors, multiply, productKernel, sumKernel } from './linear-products.ts';
import { matrixFault } from './matrix-check.ts';
import { foldGroups, gated, type Space } from './row-ops.ts';
import { neighbouringSubgroups } from './subgroup-layout.ts';
import { ChannelBuffers } from './weights/channel-buffers.ts';
import type { GpuLinear } from './weights/gpu-linear.ts';
import { type JoinedLinear, joinedLinear } from './weights/join.ts';
import { loadWeight } from './weights/load.ts';
import { Loading } from './weights/loading.ts';

export interface LinearsOptions {
  /** One order of summation per output, whatever the tokens. */
  deterministic: boolean;
  /** Most bytes of a binding where the device allows more. */
  bindingBytes?: number;
  /** Most buffers of a kernel where the device allows more. */
  storageBuffers?: number;
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

const EMBED_THREADS = 256;

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
    const loading = new Loading(gpu, label, this.#options.bindingBytes ?? Number.POSITIVE_INFINITY);
    const linear = await loadWeight(loading, this.#channels, weight);
    if (this.#matrices.kind === 'used') await addRowFactors(loading, linear);
    await loading.finish();
    return linear;
  }

  /** As the Backend's: one dispatch multiplies them from now on, where kinds and formats agree and the device binds so many buffers. Throws `out_of_memory`. */
  async join(weights: readonly Linear[]): Promise<void> {
    const members = weights as readonly GpuLinear[];
    if (members.some((member) => this.#joined.has(member))) return;
    const loading = new Loading(
      this.#space.gpu,
      'joined weights',
      this.#options.bindingBytes ?? Number.POSITIVE_INFINITY,
    );
    const { maxStorageBuffersPerShaderStage } = this.#space.gpu.opened.limits;
    const mostBuffers = Math.min(
      this.#options.storageBuffers ?? maxStorageBuffersPerShaderStage,
      maxStorageBuffersPerShaderStage,
    );
    const whole = await joinedLinear(loading, members, mostBuffers);
    if (whole === null) return;
    for (const [index, member] of members.entries()) {
      // Its buffers are the whole's.
      member.parts = [];
      this.#joined.set(member, { whole, index });
    }
  }

  /** Needs subgroups whose threads are neighbours. */
  async #tryMatrices(): Promise<void> {
    if (this.#matrices.kind !== 'untried') return;
    const { shape } = this.#matrices;
    const fault =
      this.#subgroups === null ? 'its subgroups are no neighbouring threads' : await matrixFault(this.#space, shape);
    this.#matrices = fault === null ? { kind: 'used', shape } : { kind: 'broken', reason: fault };
    if (fault !== null) this.#options.log?.(`subgroup matrices are not used: ${fault}`);
  }

  /** For benches: the kernels that a product of so many tokens runs, by their profile names. */
  kernelNames(weight: Linear, tokens: number): string[] {
    const linear = weight as GpuLinear;
    const plan = this.#plan(linear, tokens);
    const names = [productKernel(this.#space, linear, plan, PLAIN).name];
    if (plan.kind !== 'gemv' && plan.shares > 1) names.push(sumKernel(this.#space, linear, PLAIN).name);
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
      THREADS: EMBED_THREADS,
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
        ...foldGroups(Math.ceil((ids.length * chunks * 4) / EMBED_THREADS)),
      );
    return y;
  }

  /** Each weight's product with x; what the weights want of x in common is made once. */
  run(x: Activation, weights: readonly Linear[]): Activation[] {
    const inputs = new LinearInputs(this.#space, x);
    const whole = this.#wholeOf(weights);
    const ys =
      whole === null
        ? weights.map((weight) => this.#product(x, inputs, weight as GpuLinear, PLAIN))
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

  #gatedApart(f: ActivationFunction, x: Activation, inputs: LinearInputs, gate: Linear, up: Linear): Activation {
    const { activations } = this.#space;
    const opened = this.#product(x, inputs, gate as GpuLinear, PLAIN);
    if (!this.#joined.has(up)) {
      const y = this.#product(x, inputs, up as GpuLinear, { kind: 'gated', f, values: opened.buffer });
      activations.release(opened.buffer);
      return y;
    }
    const value = this.#product(x, inputs, up as GpuLinear, PLAIN);
    const y = gated(this.#space, f, opened, value);
    for (const { buffer } of [opened, value]) activations.release(buffer);
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
      multiply(this.#space, x, inputs, whole, plan, [y.buffer], { kind: 'pair', f });
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
      multiply(this.#space, x, inputs, whole, this.#plan(whole, x.rows), buffers, { kind: 'apart', count: ys.length });
    return ys;
  }

  /** Of a joined weight by itself all are multiplied, since no step asks for that; its end is plain. */
  #product(x: Activation, inputs: LinearInputs, weight: GpuLinear, end: End): GpuActivation {
    expectInputs(x, weight);
    const { activations } = this.#space;
    const joined = this.#joined.get(weight);
    if (joined !== undefined) {
      const ys = this.#products(x, inputs, joined.whole);
      for (const [i, { buffer }] of ys.entries()) if (i !== joined.index) activations.release(buffer);
      return ys[joined.index]!;
    }
    const y = activations.make(x.rows, weight.outFeatures);
    if (x.rows > 0) multiply(this.#space, x, inputs, weight, this.#plan(weight, x.rows), [y.buffer], end);
    return y;
  }

  #plan(weight: GpuLinear, tokens: number): LinearPlan {
    const { f16 } = this.#space.gpu.features;
    const matrices = this.#matrices.kind === 'used' ? this.#matrices.shape : null;
    const features = { subgroups: this.#subgroups ?? null, f16, matrices };
    return planLinear(weight, tokens, features, this.#options.deterministic);
  }
}

function expectInputs(x: Activation, { inFeatures }: GpuLinear): void {
  if (x.cols !== inFeatures)
    throw impossible(`linear: x is [${x.rows}, ${x.cols}] for a weight of ${inFeatures} inputs`);
}
