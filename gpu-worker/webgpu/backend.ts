/** WebGpuBackend: the Backend on Dawn. Ops add dispatches to the step's command buffer; `read` and `top` submit it and wait. */
import process from 'node:process';
import type {
  Activation,
  ActivationFunction,
  AttentionOptions,
  Backend,
  Batch,
  KernelTime,
  KvDtype,
  KvShape,
  Linear,
  LinearWeight,
  Measurable,
  MeasuredRate,
  Rope,
  TopLogits,
  Vector,
} from '../../core/model/backend.ts';
import { Activations, type GpuActivation, type GpuVector, impossible } from './activations.ts';
import { type DeviceOptions, openDevice } from './device.ts';
import { Gpu } from './gpu.ts';
import { type GpuRope, KeyValues } from './key-values.ts';
import { copyLimit, matrixLimit, multiplyLimit } from './limits.ts';
import { Linears, type Matrices } from './linears.ts';
import * as rowOps from './row-ops.ts';
import { StepInputs } from './step-inputs.ts';
import { top } from './top.ts';

export interface WebGpuOptions extends DeviceOptions {
  /** One order of summation per op, so that a token's output does not depend on its batch; slower. */
  deterministic: boolean;
  /** Whether prefill may multiply by subgroup matrices where the adapter has them; never when deterministic. */
  matrices: 'auto' | 'none';
}

export async function openWebGpuBackend(options: WebGpuOptions): Promise<WebGpuBackend> {
  const opened = await openDevice(options);
  return new WebGpuBackend(new Gpu(opened), options);
}

export class WebGpuBackend implements Backend, Measurable {
  readonly name = 'webgpu';
  readonly defaultKvDtype: KvDtype;
  readonly batchInvariant: boolean;
  readonly gpu: Gpu;
  readonly #space: rowOps.Space;
  readonly #linears: Linears;
  #kv: KeyValues | null = null;
  #inputs: StepInputs | null = null;

  constructor(gpu: Gpu, options: WebGpuOptions) {
    this.gpu = gpu;
    this.batchInvariant = options.deterministic;
    this.defaultKvDtype = gpu.features.f16 ? 'f16' : 'f32';
    this.#space = { gpu, activations: new Activations(gpu) };
    this.#linears = new Linears(this.#space, {
      deterministic: options.deterministic,
      ...(options.matrices === 'none' ? { matrices: 'none' } : {}),
      log: (line) => process.stderr.write(`${line}\n`),
    });
  }

  get device(): string {
    const { f16, subgroups } = this.gpu.features;
    const parts = [
      f16 ? 'f16' : 'f32',
      subgroups === null ? 'no subgroups' : `subgroups of ${subgroups.minSize} to ${subgroups.maxSize}`,
      ...matricesLabel(this.#linears.matrices),
    ];
    return `${this.gpu.opened.description} (WebGPU), ${parts.join(', ')}`;
  }

  measureBandwidth(): Promise<MeasuredRate> {
    return copyLimit(this.gpu);
  }

  measureMatmul(): Promise<MeasuredRate> {
    const { matrices } = this.#linears;
    return matrices.kind === 'used' ? matrixLimit(this.gpu, matrices.shape) : multiplyLimit(this.gpu);
  }

  async profile(run: () => Promise<void>): Promise<KernelTime[]> {
    if (!this.gpu.startProfile()) throw impossible('this adapter has no timestamps');
    try {
      await run();
    } catch (error) {
      await this.gpu.stopProfile().catch(() => []);
      throw error;
    }
    return this.gpu.stopProfile();
  }

  loadLinear(weight: LinearWeight, label: string): Promise<Linear> {
    return this.#linears.load(weight, label);
  }

  join(weights: readonly Linear[]): Promise<void> {
    return this.#linears.join(weights);
  }

  loadVector(values: Float32Array): Vector {
    const buffer = this.gpu.pool.take(values.byteLength);
    this.gpu.write(buffer, 0, values.slice());
    const vector: GpuVector = { length: values.length, buffer };
    return vector;
  }

  kvBudgetBytes(): Promise<number> {
    return KeyValues.budgetBytes(this.gpu);
  }

  allocateKv(shape: KvShape): void {
    if (this.#kv !== null) throw impossible('allocateKv: called twice');
    this.#kv = new KeyValues(this.#space, shape, { deterministic: this.batchInvariant });
  }

  begin(batch: Batch): void {
    this.#space.activations.begin();
    this.#inputs = new StepInputs(this.#space, batch);
  }

  free(x: Activation): void {
    this.#space.activations.release(this.#space.activations.bufferOf(x));
  }

  rope(cos: Float32Array, sin: Float32Array, rotaryDim: number): Rope {
    const { activations } = this.#space;
    const { tokens } = this.#step();
    if (rotaryDim % 2 !== 0 || cos.length !== (tokens * rotaryDim) / 2 || sin.length !== cos.length)
      throw impossible(`rope: ${cos.length} cos and ${sin.length} sin for ${tokens} tokens and rotaryDim ${rotaryDim}`);
    const rope: GpuRope = {
      rotaryDim,
      cos: activations.upload(cos),
      sin: activations.upload(sin),
      step: activations.step,
    };
    return rope;
  }

  write(values: Float32Array, rows: number, cols: number): Activation {
    const { activations } = this.#space;
    if (values.length !== rows * cols) throw impossible(`write: ${values.length} values for [${rows}, ${cols}]`);
    const y = activations.make(rows, cols);
    // Its buffer may be in use by dispatches that were collected before.
    this.gpu.flush();
    this.gpu.write(y.buffer, 0, values.slice());
    return y;
  }

  embed(table: Linear, ids: Int32Array, scale: number): Activation {
    this.#step();
    return this.#linears.embed(table, ids, scale);
  }

  rmsNorm(x: Activation, weight: Vector, eps: number): Activation {
    return rowOps.rmsNorm(this.#space, x, weight, eps);
  }

  addRmsNorm(residual: Activation, x: Activation, weight: Vector, eps: number): Activation {
    return rowOps.addRmsNorm(this.#space, residual, x, weight, eps);
  }

  layerNorm(x: Activation, weight: Vector, bias: Vector | null, eps: number): Activation {
    return rowOps.layerNorm(this.#space, x, weight, bias, eps);
  }

  add(residual: Activation, x: Activation): void {
    rowOps.add(this.#space, residual, x);
  }

  linear(x: Activation, weight: Linear): Activation {
    return this.#linears.run(x, [weight])[0]!;
  }

  linears(x: Activation, weights: readonly Linear[]): Activation[] {
    return this.#linears.run(x, weights);
  }

  gatedLinear(f: ActivationFunction, x: Activation, gate: Linear, up: Linear): Activation {
    return this.#linears.gated(f, x, gate, up);
  }

  ropeKv(layer: number, q: Activation, k: Activation, v: Activation, rope: Rope | null): void {
    this.#keyValues(layer).ropeKv(this.#step(), layer, q, k, v, rope as GpuRope | null);
  }

  attention(layer: number, q: Activation, options: AttentionOptions): Activation {
    return this.#keyValues(layer).attention(this.#step(), layer, q, options);
  }

  gated(f: ActivationFunction, gate: Activation, up: Activation): Activation {
    return rowOps.gated(this.#space, f, gate, up);
  }

  activate(f: ActivationFunction, x: Activation): Activation {
    return rowOps.activate(this.#space, f, x);
  }

  columns(x: Activation, ranges: readonly { begin: number; count: number }[]): Activation {
    return rowOps.columns(this.#space, x, ranges);
  }

  reshape(x: Activation, rows: number, cols: number): Activation {
    if (x.rows * x.cols !== rows * cols) throw impossible(`reshape: [${x.rows}, ${x.cols}] to [${rows}, ${cols}]`);
    const { activations } = this.#space;
    const y: GpuActivation = { rows, cols, buffer: activations.bufferOf(x), step: activations.step };
    return y;
  }

  gatherRows(x: Activation, rows: Int32Array): Activation {
    return rowOps.gatherRows(this.#space, x, rows);
  }

  softcap(x: Activation, softcap: number): void {
    rowOps.softcap(this.#space, x, softcap);
  }

  async read(x: Activation): Promise<Float32Array> {
    const { activations } = this.#space;
    return new Float32Array(await this.gpu.read(activations.bufferOf(x), 4 * x.rows * x.cols));
  }

  top(logits: Activation, count: number, temperatures: Float32Array): Promise<TopLogits> {
    return top(this.#space, logits, count, temperatures);
  }

  dispose(): Promise<void> {
    return this.gpu.destroy();
  }

  #step(): StepInputs {
    if (this.#inputs === null) throw impossible('an op was called before begin');
    return this.#inputs;
  }

  #keyValues(layer: number): KeyValues {
    if (this.#kv === null) throw impossible(`no key/value pages for layer ${layer}`);
    return this.#kv;
  }
}

/** Which variant of the prefill's products runs, for reports. */
function matricesLabel(matrices: Matrices): string[] {
  switch (matrices.kind) {
    case 'absent':
      return ['no subgroup matrices'];
    case 'untried':
    case 'used': {
      const { M, N, K } = matrices.shape;
      return [`subgroup matrices of ${M}x${N}x${K}`];
    }
    case 'broken':
      return [`subgroup matrices off: ${matrices.reason}`];
    default:
      return matrices satisfies never;
  }
}
