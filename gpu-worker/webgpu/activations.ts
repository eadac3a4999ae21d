/** Activations: a step's intermediates in pooled buffers, and the checks that a caller's come from this step. */
import { NibbleError } from '../../core/errors.ts';
import type { Activation, Vector } from '../../core/model/backend.ts';
import type { Gpu } from './gpu.ts';

export interface GpuActivation extends Activation {
  /** [rows, cols] f32, at least so large */
  buffer: GPUBuffer;
  /** The `begin` that it belongs to. */
  step: number;
}

export interface GpuVector extends Vector {
  /** [length] f32 */
  buffer: GPUBuffer;
}

export class Activations {
  readonly #gpu: Gpu;
  /** Buffers of this step that were not freed. */
  readonly #live = new Set<GPUBuffer>();
  readonly #uploads: GPUBuffer[] = [];
  #step = 0;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  get step(): number {
    return this.#step;
  }

  begin(): void {
    this.#gpu.flush();
    this.#step++;
    for (const buffer of this.#live) this.#gpu.pool.give(buffer);
    for (const buffer of this.#uploads) this.#gpu.pool.give(buffer);
    this.#live.clear();
    this.#uploads.length = 0;
  }

  /** With whatever was in it. */
  make(rows: number, cols: number): GpuActivation {
    const buffer = this.scratch(4 * rows * cols);
    return { rows, cols, buffer, step: this.#step };
  }

  /** A buffer of this step; `release` it when the dispatches that use it were added. */
  scratch(bytes: number): GPUBuffer {
    const buffer = this.#gpu.pool.take(bytes);
    this.#live.add(buffer);
    return buffer;
  }

  /** Dispatches already added keep their use of it: the device runs them in order. */
  release(buffer: GPUBuffer): void {
    if (this.#live.delete(buffer)) this.#gpu.pool.give(buffer);
  }

  /** The values on the device until the next `begin`. */
  upload(values: Int32Array | Uint32Array | Float32Array): GPUBuffer {
    const buffer = this.#gpu.upload(values);
    this.#uploads.push(buffer);
    return buffer;
  }

  bufferOf(x: Activation): GPUBuffer {
    const own = x as GpuActivation;
    if (own.step !== this.#step || !this.#live.has(own.buffer))
      throw impossible(`an activation [${x.rows}, ${x.cols}] was used after it was freed`);
    return own.buffer;
  }
}

export function vectorBuffer(vector: Vector, what: string, length: number): GPUBuffer {
  if (vector.length !== length) throw impossible(`${what} has length ${vector.length}, expected ${length}`);
  return (vector as GpuVector).buffer;
}

export function expectShape(what: string, x: Activation, rows: number, cols: number): void {
  if (x.rows !== rows || x.cols !== cols)
    throw impossible(`${what} is [${x.rows}, ${x.cols}], expected [${rows}, ${cols}]`);
}

export function impossible(reason: string): NibbleError {
  return new NibbleError({ code: 'internal', reason: `webgpu backend: ${reason}` });
}
