/** Parts: what several weight layouts place the same way. */
import { NibbleError } from '../../core/errors.ts';
import type { KernelMemory } from '../memory.ts';

/** [paddedLength] f32, zeros beyond `bias` or without one. */
export function placeBias(
  memory: KernelMemory,
  bias: Float32Array | null,
  paddedLength: number,
  label: string,
): number {
  const address = memory.permanent(paddedLength * 4, label);
  if (bias !== null) memory.f32(address, bias.length).set(bias);
  return address;
}

/** The kernels widen f16 by shifting, which has no infinities. */
export function expectFinite(label: string, halves: Uint16Array): void {
  if (!hasFullExponent(halves)) return;
  const at = halves.findIndex((half) => (half & 0x7c00) === 0x7c00);
  throw invalid(label, `f16 value ${at} is not finite`);
}

/** Two at a time: an exponent of ones, and no other, carries into its half's sign. */
function hasFullExponent(halves: Uint16Array): boolean {
  const isAligned = halves.byteOffset % 4 === 0;
  const pairs = isAligned ? new Uint32Array(halves.buffer, halves.byteOffset, halves.length >> 1) : new Uint32Array(0);
  let carries = 0;
  for (let i = 0; i < pairs.length; i++) carries |= (pairs[i]! & 0x7c007c00) + 0x04000400;
  if ((carries & 0x80008000) !== 0) return true;
  for (let i = 2 * pairs.length; i < halves.length; i++) if ((halves[i]! & 0x7c00) === 0x7c00) return true;
  return false;
}

export function invalid(label: string, rule: string): NibbleError {
  return new NibbleError({ code: 'file_invalid', file: label, tensor: null, rule });
}
