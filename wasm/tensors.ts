/** Tensors: what the backend hands out besides weights, and the checks that its own come back, in shape. */
import { NibbleError } from '../core/errors.ts';
import type { Activation, Rope, Vector } from '../core/model/backend.ts';
import type { KernelMemory } from './memory.ts';

export interface WasmActivation extends Activation {
  memory: KernelMemory;
  /** [rows, cols] f32 */
  address: number;
  /** The `begin` that it belongs to. */
  step: number;
}

export interface WasmVector extends Vector {
  memory: KernelMemory;
  /** [length] f32 */
  address: number;
}

export interface WasmRope extends Rope {
  /** [tokens, rotaryDim/2] f32 */
  cos: number;
  sin: number;
  step: number;
}

export function impossible(reason: string): NibbleError {
  return new NibbleError({ code: 'internal', reason: `wasm backend: ${reason}` });
}

/** Throws unless `x` was made by this memory's backend in this step. */
export function activationAddress(x: Activation, memory: KernelMemory, step: number): number {
  const own = x as WasmActivation;
  if (own.memory !== memory) throw impossible('an activation of another backend');
  if (own.step !== step) throw impossible(`an activation of step ${own.step} used in step ${step}`);
  return own.address;
}

export function expectShape(what: string, x: Activation, rows: number, cols: number): void {
  if (x.rows !== rows || x.cols !== cols)
    throw impossible(`${what} is [${x.rows}, ${x.cols}], expected [${rows}, ${cols}]`);
}

export function expectSameShape(op: string, a: Activation, b: Activation): void {
  expectShape(`${op}: the second operand`, b, a.rows, a.cols);
}
