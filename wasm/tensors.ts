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

export function expectLength(label: string, what: string, length: number, expected: number): void {
  if (length !== expected)
    throw new NibbleError({
      code: 'internal',
      reason: `${label}: ${what} has length ${length}, its shape needs ${expected}`,
    });
}

export function expectShape(what: string, x: Activation, rows: number, cols: number): void {
  if (x.rows !== rows || x.cols !== cols)
    throw impossible(`${what} is [${x.rows}, ${x.cols}], expected [${rows}, ${cols}]`);
}

export function expectSameShape(op: string, a: Activation, b: Activation): void {
  expectShape(`${op}: the second operand`, b, a.rows, a.cols);
}
