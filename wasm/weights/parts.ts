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
  const at = halves.findIndex((half) => (half & 0x7c00) === 0x7c00);
  if (at >= 0) throw invalid(label, `f16 value ${at} is not finite`);
}

export function invalid(label: string, rule: string): NibbleError {
  return new NibbleError({ code: 'file_invalid', file: label, tensor: null, rule });
}
