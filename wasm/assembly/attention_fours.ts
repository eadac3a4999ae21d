// attention_fours: attention (see there) for tokens of which four are neighbours in one sequence: they share each key and value that is loaded.
//   gathered  [parts, capacity * (stride + ceil(headDim / 8) * 8)] f32, scratch: one head's keys [capacity, stride] and values
//             [headDim / 8, capacity, 8] by position, taken from their pages once for all fours of a sequence; capacity > the largest position + 1
//   own       [stride / 4, 4 tokens, 4 channels] f32, queries; then, as the sums of values, [headDim / 8, 4 tokens, 8 channels]
//   scores    [positions, 4 tokens] f32, from the first position that token 0 sees to the last that token 3 does; weights in their places
// Every sum adds what it adds for a token alone, in that order: bits are the same. A position that a token does not see weighs 0.
// Gathering costs as much as widening f16 for one four does. Bound by f32 multiply and add, each half of the time: 0.8 of two a cycle in the two
// inner loops. Split by pieces of fours, a head's together. Reference: test/wasm/oracle.ts, attention.

import { halfMask } from './constants';
import { exp4 } from './exp';
import { elementShift, loadValues, padRow } from './key_value';
import { storeLanes, sumLanes4 } from './lanes';
import { firstPiece, nextPiece, NONE, pieceBegin, pieceEnd, SECOND } from './pieces';
import { capped } from './softcap';

const F16 = 1;
/** Fours in a piece. */
const FOURS = 8;

/** Whether the four tokens from `token` on are neighbours in one sequence. */
export function inARow(positions: usize, sequenceOf: usize, token: i32, tokens: i32): bool {
  if (token + 4 > tokens) return false;
  positions += <usize>token << 2;
  sequenceOf += <usize>token << 2;
  for (let i = 1; i < 4; i++) {
    const at = <usize>i << 2;
    if (load<i32>(sequenceOf) != load<i32>(sequenceOf + at) || load<i32>(positions) + i != load<i32>(positions + at)) return false;
  }
  return true;
}

@inline function madd(sum: v128, a: v128, b: v128): v128 {
  return f32x4.add(sum, f32x4.mul(a, b));
}

@inline function widen(dtype: i32, from: usize, mask: v128): v128 {
  return dtype == F16 ? loadValues(F16, from, mask) : loadValues(0, from, mask);
}

/** One key's row and one value's, as they lie in `gathered`. */
function gatherRow(dtype: i32, key: usize, value: usize, keyTo: usize, valueTo: usize, headDim: i32, blockBytes: usize): void {
  const mask = i32x4.splat(halfMask), step = <usize>4 << elementShift(dtype);
  for (; headDim > 0; headDim -= 8, key += step << 1, value += step << 1, keyTo += 32, valueTo += blockBytes) {
    v128.store(keyTo, widen(dtype, key, mask));
    if (headDim > 4) v128.store(keyTo, widen(dtype, key + step, mask), 16);
    v128.store(valueTo, widen(dtype, value, mask));
    v128.store(valueTo, widen(dtype, value + step, mask), 16);
  }
}

/** Scores for `count` keys, and one more where that is odd. */
export function score_fours(q: usize, key: usize, score: usize, count: i32, stride: usize, scale: f32): void {
  if (!ASC_FEATURE_RELAXED_SIMD) return;
  const rowBytes = stride << 2, scale4 = f32x4.splat(scale);
  for (; count > 0; count -= 2, score += 32, key += rowBytes << 1) {
    let k0 = key, k1 = key + rowBytes;
    let a0 = f32x4.splat(0), b0 = a0, c0 = a0, d0 = a0, a1 = a0, b1 = a0, c1 = a0, d1 = a0;
    for (let at = q, end = q + (stride << 4); at < end; at += 64, k0 += 16, k1 += 16) {
      const x0 = v128.load(k0), x1 = v128.load(k1);
      let own = v128.load(at);
      a0 = madd(a0, own, x0); a1 = madd(a1, own, x1);
      own = v128.load(at, 16);
      b0 = madd(b0, own, x0); b1 = madd(b1, own, x1);
      own = v128.load(at, 32);
      c0 = madd(c0, own, x0); c1 = madd(c1, own, x1);
      own = v128.load(at, 48);
      d0 = madd(d0, own, x0); d1 = madd(d1, own, x1);
    }
    v128.store(score, f32x4.mul(sumLanes4(a0, b0, c0, d0), scale4));
    v128.store(score, f32x4.mul(sumLanes4(a1, b1, c1, d1), scale4), 16);
  }
}

/**
 * scores become exp(score - max) * factor. seen: positions that token 0 sees of those scored, token i as many and i more, or the last
 * `window` of these. Behind the scores: sixteen partial sums, then the four sums of weights, without the factor.
 */
function weigh(scores: usize, seen: i32, window: i32, softcap: f32, slope: f32, factor: f32): usize {
  const padded = seen + 6 & ~3, behind = scores + (<usize>padded << 4), factor4 = f32x4.splat(factor);
  if (softcap < Infinity) for (let s = scores; s < behind; s += 16) v128.store(s, capped(v128.load(s), f32x4.splat(softcap)));
  if (slope != 0) {
    let distance = f32x4.convert_i32x4_s(i32x4.sub(i32x4.splat(1 - seen), i32x4(0, 1, 2, 3)));
    for (let s = scores; s < behind; s += 16) {
      v128.store(s, f32x4.add(v128.load(s), f32x4.mul(f32x4.splat(slope), distance)));
      distance = f32x4.add(distance, f32x4.splat(1));
    }
  }
  for (let token = 0; token < 4; token++) {
    const mine = scores + (<usize>token << 2);
    for (let position = seen + token - window - 1; position >= 0; position--) store<f32>(mine + (<usize>position << 4), -Infinity);
    for (let position = seen + token; position < padded; position++) store<f32>(mine + (<usize>position << 4), -Infinity);
  }
  let largest = v128.load(scores);
  for (let s = scores + 16; s < behind; s += 16) largest = f32x4.pmax(largest, v128.load(s));
  let a = f32x4.splat(0), b = a, c = a, d = a;
  for (let s = scores; s < behind; s += 16) {
    const weight = exp4(f32x4.sub(v128.load(s), largest)), sum = f32x4.add(a, weight);
    v128.store(s, f32x4.mul(weight, factor4));
    a = b; b = c; c = d; d = sum;
  }
  v128.store(behind, a); v128.store(behind, b, 16); v128.store(behind, c, 32); v128.store(behind, d, 48);
  for (let token = 0; token < 4; token++) {
    // A token's sums begin with the first position that it sees.
    const mine = behind + (<usize>token << 2), turned = <usize>max(0, seen + token - window) << 4;
    store<f32>(mine, (load<f32>(mine + turned) + load<f32>(mine + (turned + 16 & 48))) + (load<f32>(mine + (turned + 32 & 48)) + load<f32>(mine + (turned + 48 & 48))), 64);
  }
  return behind + 64;
}

/** sums [4 tokens, 8 channels] of weight * value over `count` positions. Exported, or the compiler makes one large function of all. */
export function values_fours(weights: usize, values: usize, count: i32, sums: usize): void {
  if (!ASC_FEATURE_RELAXED_SIMD) return;
  let a0 = f32x4.splat(0), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, d0 = a0, d1 = a0;
  for (const end = weights + (<usize>count << 4); weights < end; weights += 16, values += 32) {
    const v0 = v128.load(values), v1 = v128.load(values, 16);
    let weight = v128.load32_splat(weights);
    a0 = madd(a0, weight, v0); a1 = madd(a1, weight, v1);
    weight = v128.load32_splat(weights, 4);
    b0 = madd(b0, weight, v0); b1 = madd(b1, weight, v1);
    weight = v128.load32_splat(weights, 8);
    c0 = madd(c0, weight, v0); c1 = madd(c1, weight, v1);
    weight = v128.load32_splat(weights, 12);
    d0 = madd(d0, weight, v0); d1 = madd(d1, weight, v1);
  }
  v128.store(sums, a0); v128.store(sums, a1, 16); v128.store(sums, b0, 32); v128.store(sums, b1, 48);
  v128.store(sums, c0, 64); v128.store(sums, c1, 80); v128.store(sums, d0, 96); v128.store(sums, d1, 112);
}

/** attention's task for all fours of neighbours. */
export function attendFours(task: usize, part: i32, parts: i32): void {
  const q = load<usize>(task), keyPages = load<usize>(task, 4), valuePages = load<usize>(task, 8), slopes = load<usize>(task, 32), y = load<usize>(task, 40);
  const positions = load<usize>(task, 20), sequenceOf = load<usize>(task, 24), pageTables = load<usize>(task, 28), pageTokens = load<i32>(task, 60), maxPages = load<i32>(task, 64);
  const tokens = load<i32>(task, 44), heads = load<i32>(task, 48), kvHeads = load<i32>(task, 52), headDim = load<i32>(task, 56), window = load<i32>(task, 72), softcap = load<f32>(task, 76);
  const dtype = load<i32>(task, 88), capacity = load<usize>(task, 96), stride = <usize>(headDim + 3 & ~3), rowBytes = stride << elementShift(dtype), qBytes = <usize>(headDim + 31 & ~31) << 2;
  const rowsOfScratch = load<usize>(task, 84), own = load<usize>(task, 36) + <usize>part * rowsOfScratch * (qBytes + (load<usize>(task, 80) << 2)), scores = own + rowsOfScratch * qBytes;
  const keyBytes = stride << 2, blockBytes = capacity << 5, keys = load<usize>(task, 92) + <usize>part * capacity * (keyBytes + (<usize>(headDim + 7 & ~7) << 2)), values = keys + capacity * keyBytes;
  const qFactor: f32 = dtype == F16 ? 1.2676506002282294e30 : 1, weightFactor: f32 = dtype == F16 ? 5.192296858534828e33 : 1;
  const scale = load<f32>(task, 68) * <f32>(dtype == F16 ? 4096 : 1);
  const headBytes = <usize>headDim << 2, tokenBytes = <usize>heads * headBytes, pageRows = <usize>kvHeads * pageTokens, fours = tokens >> 2, units = fours * heads;
  // What is gathered: positions [from, to) of a sequence's kv head, which pageTable and headRow tell apart.
  let from = 0, to = 0, ofTable: usize = 0, ofRow: usize = 0;

  // Heads outside, so that a head's keys and values stay in the cache for all tokens.
  for (let piece = firstPiece(task, units, FOURS, part, parts, SECOND); piece != NONE; piece = nextPiece(task, FOURS, part, parts, SECOND)) {
    for (let unit = pieceBegin(piece), behind = pieceEnd(piece); unit < behind; unit++) {
      const token = unit % fours << 2, head = unit / fours;
      if (!inARow(positions, sequenceOf, token, tokens)) continue;
      const headRow = <usize>(head * kvHeads / heads) * pageTokens;
      const count = load<i32>(positions + (<usize>token << 2)) + 1, first = max(0, count - window), end = count + 3;
      const pageTable = pageTables + (<usize>load<i32>(sequenceOf + (<usize>token << 2)) * maxPages << 2), place = <usize>token * tokenBytes + <usize>head * headBytes;
      if (pageTable != ofTable || headRow != ofRow || first < from || first > to) {
        ofTable = pageTable;
        ofRow = headRow;
        from = to = first;
      }
      for (; to < end; to++) {
        const row = (headRow + <usize>load<i32>(pageTable + (<usize>(to / pageTokens) << 2)) * pageRows + <usize>(to % pageTokens)) * rowBytes;
        gatherRow(dtype, keyPages + row, valuePages + row, keys + <usize>to * keyBytes, values + (<usize>to << 5), headDim, blockBytes);
      }
      for (let i: usize = 0; i < 4; i++) padRow(q + place + i * tokenBytes, own + (i << 4), 64, headDim, qFactor);
      score_fours(own, keys + <usize>first * keyBytes, scores, end - first, stride, scale);
      const divisors = weigh(scores, count - first, window, softcap, slopes == 0 ? 0 : load<f32>(slopes + (<usize>head << 2)), weightFactor);
      for (let channel = 0; channel < headDim; channel += 8) values_fours(scores, values + <usize>(channel >> 3) * blockBytes + (<usize>first << 5), end - first, own + (<usize>channel << 4));
      for (let i: usize = 0; i < 4; i++) {
        const divisor = v128.load32_splat(divisors + (i << 2)), yt = y + place + i * tokenBytes;
        for (let channel = 0; channel < headDim; channel += 4)
          storeLanes(yt + (<usize>channel << 2), f32x4.div(v128.load(own + (<usize>(channel & ~7) << 4) + (i << 5) + (<usize>(channel & 4) << 2)), divisor), headDim - channel);
      }
    }
  }
}
