// Lanes: the few moves between vectors and rows that several kernels share. Each fixes one order of summation.

/** Sum of the four lanes: (l0 + l1) + (l2 + l3). */
@inline export function sumLanes(v: v128): f32 {
  return (f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1)) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

/** [sum a, sum b, sum c, sum d], each in the order of sumLanes. */
@inline export function sumLanes4(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab01 = v128.shuffle<i32>(a, b, 0, 4, 1, 5), ab23 = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
  const cd01 = v128.shuffle<i32>(c, d, 0, 4, 1, 5), cd23 = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  return f32x4.add(
    f32x4.add(v128.shuffle<i32>(ab01, cd01, 0, 1, 4, 5), v128.shuffle<i32>(ab01, cd01, 2, 3, 6, 7)),
    f32x4.add(v128.shuffle<i32>(ab23, cd23, 0, 1, 4, 5), v128.shuffle<i32>(ab23, cd23, 2, 3, 6, 7)),
  );
}

/** Largest lane; NaN if any lane is. */
@inline export function maxLane(v: v128): f32 {
  v = f32x4.max(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.max(v, v128.shuffle<i32>(v, v, 1, 0, 3, 2)), 0);
}

/** Largest of |x| and the lanes of `largest`, which are not negative; a NaN is the largest of all, as its bits are. */
@inline export function maxAbs(largest: v128, x: v128): v128 {
  return i32x4.max_s(largest, f32x4.abs(x));
}

/** Largest lane of maxAbs's. */
@inline export function maxAbsLane(v: v128): f32 {
  v = i32x4.max_s(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(i32x4.max_s(v, v128.shuffle<i32>(v, v, 1, 0, 3, 2)), 0);
}

/** Four f16 at `pointer` as f32, exactly, any sign, no infinities or NaN. mask and factor: constants.ts, splatted. */
@inline export function loadHalf4(pointer: usize, mask: v128, factor: v128): v128 {
  return f32x4.mul(loadHalfLow(pointer, mask), factor);
}

/** The same 2^-112 times, exactly, for sums that take the factor elsewhere. */
@inline export function loadHalfLow(pointer: usize, mask: v128): v128 {
  return v128.and(i32x4.shl(v128.load16x4_s(pointer), 13), mask);
}

/** Stores the first `count` of four lanes. */
export function storeLanes(pointer: usize, v: v128, count: i32): void {
  if (count >= 4) { v128.store(pointer, v); return; }
  if (count > 0) v128.store32_lane(pointer, v, 0);
  if (count > 1) v128.store32_lane(pointer, v, 1, 4);
  if (count > 2) v128.store32_lane(pointer, v, 2, 8);
}
