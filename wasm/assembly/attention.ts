// attention: y = softmax(score) V, score = softcap * tanh(scale * q . k / softcap) + slope * (position of k - position of q), for each token
// and head over the last `window` positions up to its own, of its own sequence; two passes over the scores.
//   q, y        [tokens, heads * headDim] f32
//   keyPages, valuePages, keyScales, valueScales, dtype  rope_kv's, see key_value.ts
//   positions, sequenceOf [tokens] i32
//   pageTables  [sequences, maxPages] i32, checked by the caller
//   slopes      [heads] f32 (ALiBi), or 0: nothing is added. softcap: infinity for none. window: at least the context for none
//   scratch     [parts, rowsOfScratch, ceil(headDim / 32) * 32 + scoreStride] f32; rowsOfScratch >= 4 and >= heads;
//               scoreStride = 4 * ceil((seen + 3) / 4) + 8, where seen is the largest position + 1, or the window if that is less
// Any headDim; kvHeads divides heads; head h reads kv head h * kvHeads / heads.
// Accumulation in f32. Score: lane j of 4 adds channels j, j + 4, ... in order, (l0 + l1) + (l2 + l3), times scale, times the key's own scale
// (int8). Sum of weights: lane j adds the window's positions j, j + 4, ..., (l0 + l1) + (l2 + l3). Output: positions in order, each weight
// times the value's scale (int8) times the value, then divided by the sum. Nothing depends on the page size or on other tokens.
// f16 is widened without its exponent's offset of 112: q is multiplied by 2^100 and scale by 2^12, weights by 2^112, all exact.
//   gathered, capacity  attention_fours.ts: scratch for four tokens in a row of one sequence, or 0, as in the plain build, which is kept
//               small: each token goes alone then, with the same bits
// Split by pieces of heads; fours as attention_fours.ts says. Reference: test/wasm/oracle.ts, attention.

import { halfMask } from './constants';
import { attendFours, inARow } from './attention_fours';
import { exp4 } from './exp';
import { elementShift, loadValues, padRow } from './key_value';
import { maxLane, storeLanes, sumLanes, sumLanes4 } from './lanes';
import { capped } from './softcap';
import { firstPiece, nextPiece, NONE, pieceBegin, pieceEnd } from './pieces';

const F16 = 1;

/** scores [count] become softcap * tanh(score / softcap); the padding too. */
function capScores(scores: usize, count: i32, softcap: f32): void {
  for (const end = scores + (<usize>count << 2); scores < end; scores += 16) v128.store(scores, capped(v128.load(scores), f32x4.splat(softcap)));
}

/** scores [count] become score + slope * distance, distance count - 1 positions back at first, 0 at last. */
function addDistances(scores: usize, count: i32, slope: f32): void {
  for (let distance = 1 - count; distance <= 0; distance++, scores += 4) store<f32>(scores, load<f32>(scores) + slope * <f32>distance);
}

/** scores [count] become exp(score - max) * factor, the padding to a multiple of 4 becomes 0; returns the sum without the factor. */
function softmaxWeights(scores: usize, count: i32, factor: f32): f32 {
  const end = scores + (<usize>count << 2), padded = (end + 15 - scores & ~15) + scores, factor4 = f32x4.splat(factor);
  for (let s = end; s < padded; s += 4) store<f32>(s, -Infinity);
  let largest = v128.load(scores);
  for (let s = scores + 16; s < padded; s += 16) largest = f32x4.pmax(largest, v128.load(s));
  const max = f32x4.splat(maxLane(largest));
  let sum = f32x4.splat(0);
  for (let s = scores; s < padded; s += 16) {
    const weight = exp4(f32x4.sub(v128.load(s), max));
    sum = f32x4.add(sum, weight);
    v128.store(s, f32x4.mul(weight, factor4));
  }
  return sumLanes(sum);
}

@inline function madd(sum: v128, a: v128, b: v128): v128 {
  return f32x4.add(sum, f32x4.mul(a, b));
}

/** q . k of one row. */
@inline function dotRow(dtype: i32, q: usize, key: usize, stride: usize, mask: v128): f32 {
  let a = f32x4.splat(0);
  for (const end = q + (stride << 2); q < end; q += 16, key += <usize>4 << elementShift(dtype)) a = madd(a, v128.load(q), loadValues(dtype, key, mask));
  return sumLanes(a);
}

/** Scores of one token for `count` keys that lie in a row. */
@inline function scoreRunOf(dtype: i32, q: usize, key: usize, keyScale: usize, score: usize, count: i32, stride: usize, scale: f32): void {
  const mask = i32x4.splat(halfMask), rowBytes = stride << elementShift(dtype);
  for (; count >= 4; count -= 4, score += 16, keyScale += 16) {
    let a = f32x4.splat(0), b = a, c = a, d = a, k0 = key, k1 = k0 + rowBytes, k2 = k1 + rowBytes, k3 = k2 + rowBytes;
    for (let at = q, end = q + (stride << 2); at < end; at += 16) {
      const x = v128.load(at);
      a = madd(a, x, loadValues(dtype, k0, mask)); b = madd(b, x, loadValues(dtype, k1, mask));
      c = madd(c, x, loadValues(dtype, k2, mask)); d = madd(d, x, loadValues(dtype, k3, mask));
      k0 += <usize>4 << elementShift(dtype); k1 += <usize>4 << elementShift(dtype); k2 += <usize>4 << elementShift(dtype); k3 += <usize>4 << elementShift(dtype);
    }
    const sums = f32x4.mul(sumLanes4(a, b, c, d), f32x4.splat(scale));
    v128.store(score, dtype == 2 ? f32x4.mul(sums, v128.load(keyScale)) : sums);
    key += rowBytes << 2;
  }
  for (; count > 0; count--, score += 4, keyScale += 4, key += rowBytes) {
    const sum = dotRow(dtype, q, key, stride, mask) * scale;
    store<f32>(score, dtype == 2 ? sum * load<f32>(keyScale) : sum);
  }
}

// A function a dtype, exported so that the compiler keeps them apart: it folds what several loops share into one that asks at each value.
export function score_run_f32(q: usize, key: usize, keyScale: usize, score: usize, count: i32, stride: usize, scale: f32): void {
  scoreRunOf(0, q, key, keyScale, score, count, stride, scale);
}

export function score_run_f16(q: usize, key: usize, keyScale: usize, score: usize, count: i32, stride: usize, scale: f32): void {
  scoreRunOf(F16, q, key, keyScale, score, count, stride, scale);
}

export function score_run_int8(q: usize, key: usize, keyScale: usize, score: usize, count: i32, stride: usize, scale: f32): void {
  scoreRunOf(2, q, key, keyScale, score, count, stride, scale);
}

@inline function scoreRun(dtype: i32, q: usize, key: usize, keyScale: usize, score: usize, count: i32, stride: usize, scale: f32): void {
  if (dtype == F16) score_run_f16(q, key, keyScale, score, count, stride, scale);
  else if (dtype == 0) score_run_f32(q, key, keyScale, score, count, stride, scale);
  else score_run_int8(q, key, keyScale, score, count, stride, scale);
}

/** Weights of int8 values take the values' scales. */
function scaleWeights(weights: usize, scales: usize, pageTable: usize, headRow: usize, pageRows: usize, pageTokens: i32, first: i32, end: i32): void {
  for (let position = first; position < end; position++, weights += 4) {
    const row = headRow + <usize>load<i32>(pageTable + (<usize>(position / pageTokens) << 2)) * pageRows + <usize>(position % pageTokens);
    store<f32>(weights, load<f32>(weights) * load<f32>(scales + (row << 2)));
  }
}

/** sums [32 channels] += weight * value over `count` rows, `values` the first one's first channel. */
@inline function values32Of(dtype: i32, weights: usize, values: usize, rowBytes: usize, count: i32, sums: usize): void {
  const mask = i32x4.splat(halfMask), step = <usize>4 << elementShift(dtype);
  let a = v128.load(sums), b = v128.load(sums, 16), c = v128.load(sums, 32), d = v128.load(sums, 48);
  let e = v128.load(sums, 64), f = v128.load(sums, 80), g = v128.load(sums, 96), h = v128.load(sums, 112);
  for (const end = weights + (<usize>count << 2); weights < end; weights += 4, values += rowBytes) {
    const weight = v128.load32_splat(weights);
    a = madd(a, weight, loadValues(dtype, values, mask));
    b = madd(b, weight, loadValues(dtype, values + step, mask));
    c = madd(c, weight, loadValues(dtype, values + 2 * step, mask));
    d = madd(d, weight, loadValues(dtype, values + 3 * step, mask));
    e = madd(e, weight, loadValues(dtype, values + 4 * step, mask));
    f = madd(f, weight, loadValues(dtype, values + 5 * step, mask));
    g = madd(g, weight, loadValues(dtype, values + 6 * step, mask));
    h = madd(h, weight, loadValues(dtype, values + 7 * step, mask));
  }
  v128.store(sums, a); v128.store(sums, b, 16); v128.store(sums, c, 32); v128.store(sums, d, 48);
  v128.store(sums, e, 64); v128.store(sums, f, 80); v128.store(sums, g, 96); v128.store(sums, h, 112);
}

export function values_run_f32(weights: usize, values: usize, rowBytes: usize, count: i32, sums: usize): void {
  values32Of(0, weights, values, rowBytes, count, sums);
}

export function values_run_f16(weights: usize, values: usize, rowBytes: usize, count: i32, sums: usize): void {
  values32Of(F16, weights, values, rowBytes, count, sums);
}

export function values_run_int8(weights: usize, values: usize, rowBytes: usize, count: i32, sums: usize): void {
  values32Of(2, weights, values, rowBytes, count, sums);
}

@inline function values32(dtype: i32, weights: usize, values: usize, rowBytes: usize, count: i32, sums: usize): void {
  if (dtype == F16) values_run_f16(weights, values, rowBytes, count, sums);
  else if (dtype == 0) values_run_f32(weights, values, rowBytes, count, sums);
  else values_run_int8(weights, values, rowBytes, count, sums);
}

/** y [headDim] = sums / divisor */
function divide(sums: usize, divisor: f32, y: usize, headDim: i32): void {
  const divisor4 = f32x4.splat(divisor);
  for (let channel = 0; channel < headDim; channel += 4) storeLanes(y + (<usize>channel << 2), f32x4.div(v128.load(sums + (<usize>channel << 2)), divisor4), headDim - channel);
}

/** Half of a part's share, and one at least; one part takes all at once. */
@inline function headsInPiece(heads: i32, parts: i32): i32 {
  return max(1, heads / (2 * parts));
}

export function attention(task: usize, part: i32, parts: i32): void {
  const q = load<usize>(task), keyPages = load<usize>(task, 4), valuePages = load<usize>(task, 8), keyScales = load<usize>(task, 12), valueScales = load<usize>(task, 16);
  const positions = load<usize>(task, 20), sequenceOf = load<usize>(task, 24), pageTables = load<usize>(task, 28), slopes = load<usize>(task, 32), y = load<usize>(task, 40);
  const tokens = load<i32>(task, 44), heads = load<i32>(task, 48), kvHeads = load<i32>(task, 52), headDim = load<i32>(task, 56), pageTokens = load<i32>(task, 60);
  const maxPages = load<i32>(task, 64), window = load<i32>(task, 72), softcap = load<f32>(task, 76), scoreStride = load<usize>(task, 80), rowsOfScratch = load<usize>(task, 84), dtype = load<i32>(task, 88);
  const stride = <usize>(headDim + 3 & ~3), rowBytes = stride << elementShift(dtype), qBytes = <usize>(headDim + 31 & ~31) << 2, scoreBytes = scoreStride << 2;
  const qFactor: f32 = dtype == 1 ? 1.2676506002282294e30 : 1, weightFactor: f32 = dtype == 1 ? 5.192296858534828e33 : 1;
  const scale = load<f32>(task, 68) * <f32>(dtype == 1 ? 4096 : 1);
  const own = load<usize>(task, 36) + <usize>part * rowsOfScratch * (qBytes + scoreBytes), scores = own + rowsOfScratch * qBytes;
  const headBytes = <usize>headDim << 2, tokenBytes = <usize>heads * headBytes, pageRows = <usize>kvHeads * pageTokens;
  const shared = ASC_FEATURE_RELAXED_SIMD && load<usize>(task, 92) != 0;
  if (shared) attendFours(task, part, parts);

  // Pages outside, so that each is read once, from its beginning to its end.
  const size = headsInPiece(heads, parts);
  for (let piece = firstPiece(task, heads, size, part, parts); piece != NONE; piece = nextPiece(task, size, part, parts)) {
    const firstHead = pieceBegin(piece), lastHead = pieceEnd(piece);
    for (let token = 0; token < tokens; token++) {
      if (shared && inARow(positions, sequenceOf, token & ~3, tokens)) continue;
      const count = load<i32>(positions + (<usize>token << 2)) + 1, first = max(0, count - window);
      const pageTable = pageTables + (<usize>load<i32>(sequenceOf + (<usize>token << 2)) * maxPages << 2);
      for (let head = firstHead, at = own; head < lastHead; head++, at += qBytes) padRow(q + <usize>token * tokenBytes + <usize>head * headBytes, at, 16, headDim, qFactor);
      for (let position = first; position < count; ) {
        const offset = position % pageTokens, run = min(pageTokens - offset, count - position);
        const pageRow = <usize>load<i32>(pageTable + (<usize>(position / pageTokens) << 2)) * pageRows + <usize>offset;
        for (let head = firstHead; head < lastHead; head++) {
          const row = pageRow + <usize>(head * kvHeads / heads) * pageTokens, place = <usize>(head - firstHead);
          scoreRun(dtype, own + place * qBytes, keyPages + row * rowBytes, keyScales + (row << 2), scores + place * scoreBytes + (<usize>(position - first) << 2), run, stride, scale);
        }
        position += run;
      }
      // The sums of values take the places of the queries, the sum of weights the last place of its scores.
      memory.fill(own, 0, <usize>(lastHead - firstHead) * qBytes);
      for (let head = firstHead; head < lastHead; head++) {
        const mine = scores + <usize>(head - firstHead) * scoreBytes;
        const sum = weigh(mine, count - first, softcap, slopes == 0 ? 0 : load<f32>(slopes + (<usize>head << 2)), weightFactor);
        if (dtype == 2) scaleWeights(mine, valueScales, pageTable, <usize>(head * kvHeads / heads) * pageTokens, pageRows, pageTokens, first, count);
        store<f32>(mine + scoreBytes - 4, sum);
      }
      for (let position = first; position < count; ) {
        const offset = position % pageTokens, run = min(pageTokens - offset, count - position);
        const pageRow = <usize>load<i32>(pageTable + (<usize>(position / pageTokens) << 2)) * pageRows + <usize>offset;
        for (let head = firstHead; head < lastHead; head++) {
          const row = pageRow + <usize>(head * kvHeads / heads) * pageTokens, place = <usize>(head - firstHead);
          for (let channel = 0; channel < headDim; channel += 32)
            values32(dtype, scores + place * scoreBytes + (<usize>(position - first) << 2), valuePages + row * rowBytes + (<usize>channel << elementShift(dtype)), rowBytes, run, own + place * qBytes + (<usize>channel << 2));
        }
        position += run;
      }
      for (let head = firstHead; head < lastHead; head++) {
        const place = <usize>(head - firstHead);
        divide(own + place * qBytes, load<f32>(scores + (place + 1) * scoreBytes - 4), y + <usize>token * tokenBytes + <usize>head * headBytes, headDim);
      }
    }
  }
}

/** scores [count] of one token and head become weights times factor; returns the weights' sum. slope 0: no distances. */
function weigh(scores: usize, count: i32, softcap: f32, slope: f32, factor: f32): f32 {
  if (softcap < Infinity) capScores(scores, count, softcap);
  if (slope != 0) addDistances(scores, count, slope);
  return softmaxWeights(scores, count, factor);
}
