/** Workspace: the kernels with their memory, and the step in it: its batch, its activations, whose they are. */
import type { Activation, Batch, KvShape, Linear, Vector } from '../core/model/backend.ts';
import type { KernelVariant } from './kernels.ts';
import { KernelMemory } from './memory.ts';
import { type PlacedBatch, placeBatch } from './step.ts';
import type { Team } from './team.ts';
import { expectLength, impossible, type WasmActivation, type WasmVector } from './tensors.ts';
import type { WasmLinear } from './weights.ts';

export class Workspace {
  readonly team: Team;
  readonly variant: KernelVariant;
  #memory: KernelMemory;
  #batch: PlacedBatch | null = null;
  #step = 0;

  constructor(team: Team, memory: KernelMemory, variant: KernelVariant) {
    this.team = team;
    this.variant = variant;
    this.#memory = memory;
  }

  get memory(): KernelMemory {
    return this.#memory;
  }

  /** Steps begun so far; the current one's number. */
  get step(): number {
    return this.#step;
  }

  begin(batch: Batch, shape: KvShape | null): void {
    this.team.begin(batch.tokenIds.length);
    this.#memory.reset();
    this.#step++;
    this.#batch = placeBatch(this.#memory, batch, shape);
  }

  /** The linear memory goes with its last reference. */
  async dispose(): Promise<void> {
    await this.team.dispose();
    this.#memory = new KernelMemory(0);
    this.#batch = null;
    this.#step++;
  }

  batch(): PlacedBatch {
    if (this.#batch === null) throw impossible('no batch: begin was not called');
    return this.#batch;
  }

  activation(rows: number, cols: number): WasmActivation {
    return { memory: this.#memory, rows, cols, address: this.#memory.step(rows * cols * 4), step: this.#step };
  }

  /** The activation is not used again in this step: the next of its size takes its place. */
  free(x: Activation): void {
    this.#memory.free(this.addressOf(x), x.rows * x.cols * 4);
  }

  /** Copies `values` into the step's memory, where a kernel may still be at work: so it waits. */
  placeInts(values: Int32Array): number {
    this.team.settle();
    const address = this.#memory.scratch(values.byteLength);
    this.#memory.i32(address, values.length).set(values);
    return address;
  }

  placeFloats(values: Float32Array): number {
    this.team.settle();
    const address = this.#memory.scratch(values.byteLength);
    this.#memory.f32(address, values.length).set(values);
    return address;
  }

  /** The address of an activation, which must be of this backend and step. */
  addressOf(x: Activation): number {
    const { memory, step, address } = x as WasmActivation;
    if (memory !== this.#memory) throw impossible('an activation of another backend');
    if (step !== this.#step) throw impossible(`an activation of step ${step} used in step ${this.#step}`);
    return address;
  }

  vectorAddress(vector: Vector, what: string, length: number): number {
    const { memory, address } = vector as WasmVector;
    if (memory !== this.#memory) throw impossible('a vector of another backend');
    expectLength('norm', what, vector.length, length);
    return address;
  }

  weight(weight: Linear): WasmLinear {
    const own = weight as WasmLinear;
    if (own.memory !== this.#memory) throw impossible('a weight of another backend');
    return own;
  }
}
