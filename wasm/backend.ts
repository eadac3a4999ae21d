/** WasmBackend: the Backend over the kernel set, in one linear memory. No Node, no Workers. */
import type {
  Activation,
  ActivationFunction,
  AttentionOptions,
  Backend,
  Batch,
  KvShape,
  Linear,
  LinearWeight,
  Measurable,
  MeasuredRate,
  Rope,
  TopLogits,
  Vector,
} from '../core/model/backend.ts';
import { instantiateKernels, type Kernels, type KernelVariant } from './kernels.ts';
import { KeyValues } from './key-values.ts';
import { dotLimit, readLimit } from './limits.ts';
import { runLinears } from './linear.ts';
import { KernelMemory } from './memory.ts';
import * as rowOps from './row-ops.ts';
import { SingleThread, type Team } from './team.ts';
import { expectLength, impossible, type WasmRope, type WasmVector } from './tensors.ts';
import { top } from './top.ts';
import { loadWeight } from './weights.ts';
import { Workspace } from './workspace.ts';

/** The most that key/value pages take unasked: a CPU's memory has other users. */
const MAX_KV_BYTES = 1 << 30;

/**
 * `module` is one of the two builds, `variant` says which. Instantiates, never compiles.
 * `maxBytes` caps the memory, 4 GiB by default; beyond it loading throws `model_unsupported` and a step `internal`.
 */
export function createWasmBackend(
  module: WebAssembly.Module,
  variant: KernelVariant,
  options: { maxBytes?: number } = {},
): WasmBackend {
  const memory = new KernelMemory(options.maxBytes);
  const kernels = instantiateKernels(module, memory.memory);
  return new WasmBackend(kernels, new SingleThread(kernels, memory.memory), memory, variant);
}

export class WasmBackend implements Backend, Measurable {
  readonly name = 'wasm';
  /** As precise as the sums: f16 pages, half the bytes, move the logits of a small model by some thousandths. */
  readonly defaultKvDtype = 'f32';
  readonly batchInvariant = true;
  readonly variant: KernelVariant;
  readonly #kernels: Kernels;
  readonly #space: Workspace;
  #kv: KeyValues | null = null;

  constructor(kernels: Kernels, team: Team, memory: KernelMemory, variant: KernelVariant) {
    this.#kernels = kernels;
    this.#space = new Workspace(team, memory, variant);
    this.variant = variant;
  }

  get threads(): number {
    return this.#space.team.threads;
  }

  /** Bytes of linear memory in use: weights, pages and the current step. */
  get usedBytes(): number {
    return this.#space.memory.usedBytes;
  }

  /** Bytes of linear memory, in use or not. */
  get memoryBytes(): number {
    return this.#space.memory.memory.buffer.byteLength;
  }

  async loadLinear(weight: LinearWeight, label: string): Promise<Linear> {
    // A kernel may still be at work in what lies free above the step.
    this.#space.team.settle();
    return loadWeight(this.#space.memory, weight, label);
  }

  loadVector(values: Float32Array, label: string): Vector {
    const { memory, team } = this.#space;
    team.settle();
    const address = memory.permanent(values.byteLength, label);
    memory.f32(address, values.length).set(values);
    const vector: WasmVector = { memory, length: values.length, address };
    return vector;
  }

  async kvBudgetBytes(): Promise<number> {
    return Math.min(MAX_KV_BYTES, this.#space.memory.freeBytes);
  }

  allocateKv(shape: KvShape): void {
    if (this.#kv !== null) throw impossible('allocateKv: called twice');
    // A batch is checked against the pages when it begins.
    if (this.#space.step > 0) throw impossible('allocateKv: called after begin');
    this.#kv = new KeyValues(this.#space, shape);
  }

  begin(batch: Batch): void {
    this.#space.begin(batch, this.#kv?.shape ?? null);
  }

  rope(cos: Float32Array, sin: Float32Array, rotaryDim: number): Rope {
    const { tokens } = this.#space.batch();
    if (rotaryDim % 2 !== 0) throw impossible(`rope: rotaryDim ${rotaryDim} is odd`);
    expectLength('rope', 'cos', cos.length, (tokens * rotaryDim) / 2);
    expectLength('rope', 'sin', sin.length, cos.length);
    const rope: WasmRope = {
      rotaryDim,
      cos: this.#space.placeFloats(cos),
      sin: this.#space.placeFloats(sin),
      step: this.#space.step,
    };
    return rope;
  }

  write(values: Float32Array, rows: number, cols: number): Activation {
    expectLength('write', 'values', values.length, rows * cols);
    const x = this.#space.activation(rows, cols);
    // The threads may still work on what lay there.
    this.#space.team.settle();
    this.#space.memory.f32(this.#space.addressOf(x), rows * cols).set(values);
    return x;
  }

  embed(table: Linear, ids: Int32Array, scale: number): Activation {
    return rowOps.embed(this.#space, table, ids, scale);
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
    return this.linears(x, [weight])[0]!;
  }

  linears(x: Activation, weights: readonly Linear[]): Activation[] {
    const own = weights.map((weight) => this.#space.weight(weight));
    for (const { inFeatures } of own)
      if (x.cols !== inFeatures) throw impossible(`linear: x has ${x.cols} columns, the weight ${inFeatures}`);
    return runLinears(this.#space, x, own);
  }

  gatedLinear(f: ActivationFunction, x: Activation, gate: Linear, up: Linear): Activation {
    const [onGate, onUp] = this.linears(x, [gate, up]);
    rowOps.gatedInPlace(this.#space, f, onGate!, onUp!);
    return onGate!;
  }

  ropeKv(layer: number, q: Activation, k: Activation, v: Activation, rope: Rope | null): void {
    this.#keyValues(layer).ropeKv(layer, q, k, v, rope);
  }

  attention(layer: number, q: Activation, options: AttentionOptions): Activation {
    return this.#keyValues(layer).attention(layer, q, options);
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
    return rowOps.reshape(this.#space, x, rows, cols);
  }

  gatherRows(x: Activation, rows: Int32Array): Activation {
    return rowOps.gatherRows(this.#space, x, rows);
  }

  softcap(x: Activation, softcap: number): void {
    rowOps.softcap(this.#space, x, softcap);
  }

  async read(x: Activation): Promise<Float32Array> {
    this.#space.team.settle();
    return this.#space.memory.f32(this.#space.addressOf(x), x.rows * x.cols).slice();
  }

  async top(logits: Activation, count: number, temperatures: Float32Array): Promise<TopLogits> {
    return top(this.#space, logits, count, temperatures);
  }

  free(x: Activation): void {
    this.#space.free(x);
  }

  get device(): string {
    return `WebAssembly, ${this.variant} SIMD, ${this.threads === 1 ? '1 thread' : `${this.threads} threads`}`;
  }

  async measureBandwidth(): Promise<MeasuredRate> {
    return readLimit(this.#space.team, this.#space.memory);
  }

  async measureMatmul(): Promise<MeasuredRate> {
    return dotLimit(this.#kernels, this.#space.team, this.variant);
  }

  async dispose(): Promise<void> {
    await this.#space.dispose();
    this.#kv = null;
  }

  #keyValues(layer: number): KeyValues {
    if (this.#kv === null) throw impossible(`no key/value pages for layer ${layer}`);
    return this.#kv;
  }
}
