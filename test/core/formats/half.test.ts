/** Half: exact in both directions, against the platform's own f16. */
import { expect, test } from 'vitest';
import {
  bf16ToF32,
  bf16ToF32Array,
  f16ToF32,
  f16ToF32Array,
  f32ToBf16,
  f32ToBf16Array,
  f32ToF16,
  f32ToF16Array,
} from '../../../core/formats/half.ts';
import { randomOf } from './random.ts';

const view = new DataView(new ArrayBuffer(4));
const all = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);
const isNanBits = (bits: number, exponent: number) => (bits & 0x7fff) > exponent;
const f32Bits = (value: number) => {
  view.setFloat32(0, value);
  return view.getUint32(0);
};

test('every f16 becomes the f32 that the platform reads, and goes back to the same bits', () => {
  const array = f16ToF32Array(all);
  for (const bits of all) {
    view.setUint16(0, bits);
    const wanted = (view as DataView & { getFloat16(at: number): number }).getFloat16(0);
    expect(Object.is(f16ToF32(bits), wanted) && Object.is(array[bits], wanted), `${bits}`).toBe(true);
    if (isNanBits(bits, 0x7c00)) expect(isNanBits(f32ToF16(wanted), 0x7c00)).toBe(true);
    else expect(f32ToF16(wanted)).toBe(bits);
  }
});

test('f32 becomes the nearest f16, ties to even, as the platform rounds', () => {
  const random = randomOf(7);
  const check = (value: number) => {
    (view as DataView & { setFloat16(at: number, value: number): void }).setFloat16(0, value);
    const wanted = view.getUint16(0);
    const got = f32ToF16(value);
    if (got !== wanted && !(isNanBits(got, 0x7c00) && isNanBits(wanted, 0x7c00)))
      expect([value, got]).toEqual([value, wanted]);
  };
  for (let i = 0; i < 200_000; i++) {
    view.setUint32(0, Math.floor(random() * 2 ** 32));
    check(view.getFloat32(0));
    // Where f16 lives: around each f16 and halfway to the next.
    const base = f16ToF32(Math.floor(random() * 65_536));
    view.setUint32(0, f32Bits(base) + pickNear(random));
    check(view.getFloat32(0));
  }
  for (const value of [
    65_504,
    65_519.99609375,
    65_520,
    2 ** -24,
    2 ** -25,
    2 ** -25 * 1.0000001,
    -0,
    6.103515625e-5,
    6.1005353927612305e-5,
  ])
    check(Math.fround(value));
});

test('every bf16 is the upper half of its f32, and goes back to the same bits', () => {
  const array = bf16ToF32Array(all);
  for (const bits of all) {
    if (isNanBits(bits, 0x7f80)) {
      expect(Number.isNaN(bf16ToF32(bits)) && isNanBits(f32ToBf16(bf16ToF32(bits)), 0x7f80)).toBe(true);
      continue;
    }
    expect(f32Bits(bf16ToF32(bits))).toBe(bits * 65_536);
    expect(Object.is(array[bits], bf16ToF32(bits))).toBe(true);
    expect(f32ToBf16(array[bits]!)).toBe(bits);
  }
});

test('f32 becomes the nearest bf16, ties to even, and overflows to infinity', () => {
  expect(f32ToBf16(1 + 2 ** -8)).toBe(0x3f80);
  expect(f32ToBf16(1 + 3 * 2 ** -8)).toBe(0x3f82);
  expect(f32ToBf16(Math.fround(1 + 2 ** -8 + 2 ** -20))).toBe(0x3f81);
  expect(f32ToBf16(Math.fround(3.4e38))).toBe(0x7f80);
  expect([...f32ToBf16Array(Float32Array.of(1, -2))]).toEqual([0x3f80, 0xc000]);
  expect([...f32ToF16Array(Float32Array.of(1, -2))]).toEqual([0x3c00, 0xc000]);
});

function pickNear(random: () => number): number {
  return [0, 0x1000, 0xfff, 0x1001, -1, 1][Math.floor(random() * 6)]!;
}
