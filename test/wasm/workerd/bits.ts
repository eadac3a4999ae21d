/** Bits: an output's fingerprint, the same wherever it is computed. */
import type { Backend } from '../../../core/model/backend.ts';
import { OP_CASES, POOL_ROWS, runInSteps } from '../op-cases.ts';

export interface OutputBits {
  /** SHA-256 of all f32 values, little-endian. */
  sha256: string;
  /** Bit patterns of the first four values, to see how far off one is. */
  first: string[];
}

/** Every op case by name, each on a backend of its own. */
export async function bitsOfOps(newBackend: () => Backend | Promise<Backend>): Promise<Record<string, OutputBits>> {
  const bits: Record<string, OutputBits> = {};
  for (const op of OP_CASES) {
    const output = await runInSteps(op, await newBackend(), [1, 15, POOL_ROWS - 16]);
    const words = new Uint32Array(output.buffer as ArrayBuffer);
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', words));
    bits[op.name] = {
      sha256: [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join(''),
      first: [...words.subarray(0, 4)].map((word) => word.toString(16).padStart(8, '0')),
    };
  }
  return bits;
}
