// attention: y = softmax(score) V, score = softcap * tanh(scale * q . k / softcap) + slope * (position of k - position of q), for each token
// and head over the last `window` positions up to its own, of its own sequence; two passes over the scores.
//   q, y        [tokens, heads * headDim] f32
//   keyPages, valuePages  [pages, kvHeads, pageTokens, headDim] f32 (rope_kv's)
//   positions, sequenceOf [tokens] i32
//   pageTables  [sequences, maxPages] i32, checked by the caller
//   slopes      [heads] f32 (ALiBi), or 0: nothing is added. softcap: infinity for none. window: at least the context for none
//   scores      [ceil(context / 4) * 4] f32, scratch, where context is the largest position + 1
// Any headDim; kvHeads divides heads; head h reads kv head h * kvHeads / heads.
// Accumulation in f32. Score: lane j of 4 adds channels j, j + 4, ... in order, (l0 + l1) + (l2 + l3), then the last headDim mod 4 one by
// one, then times scale. Sum of weights: lane j adds the window's positions j, j + 4, ..., (l0 + l1) + (l2 + l3). Output: positions in order,
// then divided by the sum. Nothing depends on the page size or on other tokens.
// Reference: test/wasm/oracle.ts, attention.

import { exp4 } from './exp';
import { maxLane, sumLanes } from './lanes';
import { tanh4 } from './tanh';

@inline function dot(a: usize, b: usize, bytes: usize): f32 {
  const whole = bytes & ~15;
  let lanes = f32x4.splat(0);
  for (let i: usize = 0; i < whole; i += 16) lanes = f32x4.add(lanes, f32x4.mul(v128.load(a + i), v128.load(b + i)));
  let sum = sumLanes(lanes);
  for (let i = whole; i < bytes; i += 4) sum += load<f32>(a + i) * load<f32>(b + i);
  return sum;
}

/** scores [count] become softcap * tanh(score / softcap); the padding too. */
function capScores(scores: usize, count: i32, softcap: f32): void {
  const cap = f32x4.splat(softcap);
  for (const end = scores + (<usize>count << 2); scores < end; scores += 16) v128.store(scores, f32x4.mul(cap, tanh4(f32x4.div(v128.load(scores), cap))));
}

/** scores [count] become score + slope * distance, distance count - 1 positions back at first, 0 at last. */
function addDistances(scores: usize, count: i32, slope: f32): void {
  for (let distance = 1 - count; distance <= 0; distance++, scores += 4) store<f32>(scores, load<f32>(scores) + slope * <f32>distance);
}

/** scores [count] become exp(score - max), the padding to a multiple of 4 becomes 0; returns their sum. */
function softmaxWeights(scores: usize, count: i32): f32 {
  const end = scores + (<usize>count << 2), padded = (end + 15 - scores & ~15) + scores;
  for (let s = end; s < padded; s += 4) store<f32>(s, -Infinity);
  let largest = v128.load(scores);
  for (let s = scores + 16; s < padded; s += 16) largest = f32x4.max(largest, v128.load(s));
  const max = f32x4.splat(maxLane(largest));
  let sum = f32x4.splat(0);
  for (let s = scores; s < padded; s += 16) {
    const weight = exp4(f32x4.sub(v128.load(s), max));
    sum = f32x4.add(sum, weight);
    v128.store(s, weight);
  }
  return sumLanes(sum);
}

/** y [16 channels] = sum over positions of weight * value / sum; `values` points at this kv head's channel in page 0. */
@inline function values16(scores: usize, values: usize, pageTable: usize, y: usize, first: i32, count: i32, pageTokens: i32, pageBytes: usize, headBytes: usize, sum: f32): void {
  let a = f32x4.splat(0), b = a, c = a, d = a;
  pageTable += <usize>(first / pageTokens) << 2;
  for (let position = first; position < count; pageTable += 4) {
    const offset = position % pageTokens;
    let value = values + <usize>load<i32>(pageTable) * pageBytes + <usize>offset * headBytes;
    const end = min(position - offset + pageTokens, count);
    for (; position < end; position++, scores += 4, value += headBytes) {
      const weight = v128.load32_splat(scores);
      a = f32x4.add(a, f32x4.mul(weight, v128.load(value)));
      b = f32x4.add(b, f32x4.mul(weight, v128.load(value, 16)));
      c = f32x4.add(c, f32x4.mul(weight, v128.load(value, 32)));
      d = f32x4.add(d, f32x4.mul(weight, v128.load(value, 48)));
    }
  }
  const divisor = f32x4.splat(sum);
  v128.store(y, f32x4.div(a, divisor));
  v128.store(y, f32x4.div(b, divisor), 16);
  v128.store(y, f32x4.div(c, divisor), 32);
  v128.store(y, f32x4.div(d, divisor), 48);
}

/** The same for one channel. */
@inline function values1(scores: usize, values: usize, pageTable: usize, y: usize, first: i32, count: i32, pageTokens: i32, pageBytes: usize, headBytes: usize, sum: f32): void {
  let a: f32 = 0;
  pageTable += <usize>(first / pageTokens) << 2;
  for (let position = first; position < count; pageTable += 4) {
    const offset = position % pageTokens;
    let value = values + <usize>load<i32>(pageTable) * pageBytes + <usize>offset * headBytes;
    const end = min(position - offset + pageTokens, count);
    for (; position < end; position++, scores += 4, value += headBytes) a += load<f32>(scores) * load<f32>(value);
  }
  store<f32>(y, a / sum);
}

export function attention(q: usize, keyPages: usize, valuePages: usize, positions: usize, sequenceOf: usize, pageTables: usize, slopes: usize, scores: usize, y: usize, tokens: i32, heads: i32, kvHeads: i32, headDim: i32, pageTokens: i32, maxPages: i32, scale: f32, window: i32, softcap: f32): void {
  const headBytes = <usize>headDim << 2, kvHeadBytes = <usize>pageTokens * headBytes, pageBytes = <usize>kvHeads * kvHeadBytes;
  for (let token = 0; token < tokens; token++, positions += 4, sequenceOf += 4) {
    const count = load<i32>(positions) + 1, first = max(0, count - window), seen = count - first;
    const pageTable = pageTables + (<usize>load<i32>(sequenceOf) * <usize>maxPages << 2);
    for (let head = 0; head < heads; head++, q += headBytes, y += headBytes) {
      const kvHead = <usize>(head * kvHeads / heads) * kvHeadBytes;
      let score = scores, page = pageTable + (<usize>(first / pageTokens) << 2);
      for (let position = first; position < count; page += 4) {
        const offset = position % pageTokens;
        let key = keyPages + kvHead + <usize>load<i32>(page) * pageBytes + <usize>offset * headBytes;
        const end = min(position - offset + pageTokens, count);
        for (; position < end; position++, score += 4, key += headBytes) store<f32>(score, dot(q, key, headBytes) * scale);
      }
      if (softcap < Infinity) capScores(scores, seen, softcap);
      if (slopes != 0) addDistances(scores, seen, load<f32>(slopes + (<usize>head << 2)));
      const sum = softmaxWeights(scores, seen);
      let channel: usize = 0;
      for (; channel + 64 <= headBytes; channel += 64) values16(scores, valuePages + kvHead + channel, pageTable, y + channel, first, count, pageTokens, pageBytes, headBytes, sum);
      for (; channel < headBytes; channel += 4) values1(scores, valuePages + kvHead + channel, pageTable, y + channel, first, count, pageTokens, pageBytes, headBytes, sum);
    }
  }
}
