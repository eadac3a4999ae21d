// limits: what the machine can do at best in 128-bit SIMD, so that a kernel's speed can be told as a fraction of it. `nibble bench` alone calls them.
// Reference: none; the values are never used, only returned so that no compiler drops the work.

import { byteSplat, dot } from './dot';
import { firstPiece, nextPiece, NONE, pieceBegin, pieceEnd, pieceSize } from './pieces';

/**
 * Loads every byte of x [bytes] once, 16 at a time, and folds them into one word.
 *   bytes: a multiple of 128
 */
export function read_limit(x: usize, bytes: usize): i32 {
  let a = i32x4.splat(0), b = a, c = a, d = a;
  for (const end = x + bytes; x < end; x += 128) {
    a = v128.xor(a, v128.xor(v128.load(x), v128.load(x, 64)));
    b = v128.xor(b, v128.xor(v128.load(x, 16), v128.load(x, 80)));
    c = v128.xor(c, v128.xor(v128.load(x, 32), v128.load(x, 96)));
    d = v128.xor(d, v128.xor(v128.load(x, 48), v128.load(x, 112)));
  }
  const all = v128.xor(v128.xor(a, b), v128.xor(c, d));
  return i32x4.extract_lane(all, 0) ^ i32x4.extract_lane(all, 1) ^ i32x4.extract_lane(all, 2) ^ i32x4.extract_lane(all, 3);
}

/**
 * Integer products in registers, as the kernels of this build make them (dot.ts). A round is, relaxed, 12 dot products of 16 pairs of
 * bytes, one chain each so that none waits; plain, 8 of 8 pairs of 16-bit values, even and odd bytes being apart already.
 * seed: anything; operands that the compiler cannot know. The plain ones change by the round, or their products would leave the loop.
 */
export function dot_limit(seed: i32, rounds: i32): i32 {
  const wide = !ASC_FEATURE_RELAXED_SIMD, bytes = byteSplat(), step = i32x4.splat(seed & 0x00010001);
  let x = i32x4.splat(seed & 0x7f7f7f7f), w = i32x4.splat((seed >>> 1) & 0x7f7f7f7f);
  let a = i32x4.splat(0), b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a;
  for (let round = 0; round < rounds; round++) {
    if (wide) {
      const y = i32x4.add(x, step), z = i32x4.add(w, step);
      a = i32x4.add(a, i32x4.dot_i16x8_s(x, w)); b = i32x4.add(b, i32x4.dot_i16x8_s(x, z));
      c = i32x4.add(c, i32x4.dot_i16x8_s(y, w)); d = i32x4.add(d, i32x4.dot_i16x8_s(y, z));
      e = i32x4.add(e, i32x4.dot_i16x8_s(x, x)); f = i32x4.add(f, i32x4.dot_i16x8_s(x, y));
      g = i32x4.add(g, i32x4.dot_i16x8_s(w, w)); h = i32x4.add(h, i32x4.dot_i16x8_s(w, z));
      x = i32x4.add(y, w); w = i32x4.add(z, y);
    } else {
      a = dot(wide, x, x, w, bytes, a); b = dot(wide, x, x, w, bytes, b); c = dot(wide, x, x, w, bytes, c);
      d = dot(wide, x, x, w, bytes, d); e = dot(wide, x, x, w, bytes, e); f = dot(wide, x, x, w, bytes, f);
      g = dot(wide, x, x, w, bytes, g); h = dot(wide, x, x, w, bytes, h); i = dot(wide, x, x, w, bytes, i);
      j = dot(wide, x, x, w, bytes, j); k = dot(wide, x, x, w, bytes, k); l = dot(wide, x, x, w, bytes, l);
    }
  }
  const low = v128.xor(v128.xor(v128.xor(a, b), v128.xor(c, d)), v128.xor(v128.xor(e, f), v128.xor(g, h)));
  const all = v128.xor(low, v128.xor(v128.xor(i, j), v128.xor(k, l)));
  return i32x4.extract_lane(all, 0) ^ i32x4.extract_lane(all, 3);
}

/** read_limit of each part's pieces: x, bytes, words [parts] i32. For the limit of several threads. */
export function read(task: usize, part: i32, parts: i32): void {
  const x = load<usize>(task), size = pieceSize(128, 1);
  let word = 0;
  for (let piece = firstPiece(task, load<i32>(task, 4) >> 7, size, part, parts); piece != NONE; piece = nextPiece(task, size, part, parts))
    word ^= read_limit(x + (<usize>pieceBegin(piece) << 7), <usize>(pieceEnd(piece) - pieceBegin(piece)) << 7);
  store<i32>(load<usize>(task, 8) + (<usize>part << 2), word);
}
