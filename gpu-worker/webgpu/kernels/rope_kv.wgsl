// Rotates q [tokens, queryHeads·headDim] and k [tokens, kvHeads·headDim] f32 in place, channel i with i + rotaryDim/2:
// (a, b) → (a·cos − b·sin, b·cos + a·sin), cos, sin [tokens, rotaryDim/2] f32; then writes k and v [tokens, kvHeads·headDim] f32 to
// slots [tokens] u32 (page · pageTokens + token) of the planes keys, values (page-layout.ts), seen as words here: f32 as they are, F16 by
// pack2x16float after clamping to ±65504, INT8 as round(x · 127 / absmax) with the f32 scale absmax / 127 beside it. Nothing need divide
// anything: the last piece of 8 channels is filled up with zeros. queryHeads is 0 when nothing rotates.
// One workgroup a token and head (query heads, key heads, value heads): no two workgroups touch the same word.
// Bounded by memory: q and k read and written once, v read, pages written. Reference: rotate in core/model/reference-attention.ts.
struct Params { tokens: u32, queryHeads: u32, kvHeads: u32, headDim: u32, rotaryDim: u32, pieces: u32, pageTokens: u32, blockPieces: u32, bankPages: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> q: array<f32>;
@group(0) @binding(2) var<storage, read_write> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> cosines: array<f32>;
@group(0) @binding(5) var<storage, read> sines: array<f32>;
@group(0) @binding(6) var<storage, read> slots: array<u32>;
@group(0) @binding(7) var<storage, read_write> keys: array<u32>;
@group(0) @binding(8) var<storage, read_write> values: array<u32>;
#if BANKED
@group(0) @binding(9) var<storage, read_write> keysBeyond: array<u32>;
@group(0) @binding(10) var<storage, read_write> valuesBeyond: array<u32>;
#endif
#include "place.wgsl"

#if F16
const PIECE_WORDS = 4u;
#else
#if INT8
const PIECE_WORDS = 2u;
#else
const PIECE_WORDS = 8u;
#endif
#endif

// A head's row, filled up with zeros to whole pieces; ROW ≥ 8 · pieces.
var<workgroup> row: array<f32, ROW>;
#if INT8
var<workgroup> shares: array<f32, THREADS>;
#endif

struct Turn { cosine: f32, sine: f32 }
fn turnOf(token: u32, i: u32) -> Turn {
  let at = token * (params.rotaryDim / 2u) + i;
  return Turn(cosines[at], sines[at]);
}

fn writeWord(isKey: bool, bank: u32, at: u32, word: u32) {
#if BANKED
  if (bank == 1u) {
    if (isKey) { keysBeyond[at] = word; } else { valuesBeyond[at] = word; }
    return;
  }
#endif
  if (isKey) { keys[at] = word; } else { values[at] = word; }
}

fn packed(at: u32, inverse: f32) -> u32 {
#if F16
  return pack2x16float(clamp(vec2(row[2u * at], row[2u * at + 1u]), vec2(-65504.0), vec2(65504.0)));
#else
#if INT8
  let four = vec4(row[4u * at], row[4u * at + 1u], row[4u * at + 2u], row[4u * at + 3u]);
  return pack4xI8(vec4<i32>(round(four * inverse)));
#else
  return bitcast<u32>(row[at]);
#endif
#endif
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let units = params.queryHeads + 2u * params.kvHeads;
  let place = groupIndex(group, groups);
  if (place >= params.tokens * units) { return; }
  let token = place / units;
  let unit = place % units;
  let half = params.rotaryDim / 2u;

  if (unit < params.queryHeads) {
    let start = (token * params.queryHeads + unit) * params.headDim;
    for (var i = thread; i < half; i += u32(THREADS)) {
      let turn = turnOf(token, i);
      let a = q[start + i];
      let b = q[start + i + half];
      q[start + i] = a * turn.cosine - b * turn.sine;
      q[start + i + half] = b * turn.cosine + a * turn.sine;
    }
    return;
  }

  let isKey = unit < params.queryHeads + params.kvHeads;
  let head = (unit - params.queryHeads) % params.kvHeads;
  let start = (token * params.kvHeads + head) * params.headDim;
  for (var i = thread; i < 8u * params.pieces; i += u32(THREADS)) {
    if (isKey && i < half) {
      let turn = turnOf(token, i);
      let a = k[start + i];
      let b = k[start + i + half];
      row[i] = a * turn.cosine - b * turn.sine;
      row[i + half] = b * turn.cosine + a * turn.sine;
      k[start + i] = row[i];
      k[start + i + half] = row[i + half];
    } else if (i >= params.headDim) {
      row[i] = 0.0;
    } else if (!isKey) {
      row[i] = v[start + i];
    } else if (i >= params.rotaryDim) {
      row[i] = k[start + i];
    }
  }
  workgroupBarrier();

  var inverse = 1.0;
#if INT8
  var share = 0.0;
  for (var i = thread; i < params.headDim; i += u32(THREADS)) { share = max(share, abs(row[i])); }
  shares[thread] = share;
  workgroupBarrier();
  var absmax = 0.0;
  for (var i = 0u; i < u32(THREADS); i++) { absmax = max(absmax, shares[i]); }
  inverse = select(0.0, 127.0 / absmax, absmax > 1e-36);
#endif
  let slot = slots[token];
  let page = slot / params.pageTokens;
  let offset = slot % params.pageTokens;
#if BANKED
  let bank = select(0u, 1u, page >= params.bankPages);
#else
  let bank = 0u;
#endif
  let block = ((page - bank * params.bankPages) * params.kvHeads + head) * params.blockPieces;
  for (var i = thread; i < params.pieces * PIECE_WORDS; i += u32(THREADS)) {
    let piece = i / PIECE_WORDS;
    let at = block + select(offset * params.pieces + piece, piece * params.pageTokens + offset, isKey);
    writeWord(isKey, bank, at * PIECE_WORDS + i % PIECE_WORDS, packed(i, inverse));
  }
#if INT8
  if (thread == 0u) {
    let at = (block + params.pieces * params.pageTokens) * PIECE_WORDS + offset;
    writeWord(isKey, bank, at, bitcast<u32>(absmax / 127.0));
  }
#endif
}
