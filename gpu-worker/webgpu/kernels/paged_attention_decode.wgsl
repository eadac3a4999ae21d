// y[t, h, :] = Σ_p softmax_p(score(q[t, h] · K[p])) · V[p] over a token's positions p, split so that many workgroups share a long context:
// one workgroup takes GROUP query heads of one kv head, for one token and at most SPLIT of its positions, so that heads share every load.
// q, y [tokens, heads·headDim] f32; keys, values: pages (kv_pages.wgsl); pageTables [sequences, maxPages] u32; slopes [heads] f32;
// items [items] = token row, table row, first position, count of positions, splits of the token, row of partials, own position, 0.
// A token of one split goes to y; of several, each split's row of partials [rows, heads, 2·pieces + 1] vec4<f32> gets Σ exp(score − m)·V,
// then (m, Σ exp(score − m), 0, 0), for paged_attention_combine.wgsl. THREADS ≥ 16·GROUP, THREADS ≥ pieces.
// All in f32. A score is one thread's sum over the channels in order; maximum and total: 16 strided shares a head, then in order; the
// weighted sum: THREADS/pieces strided shares, then in order. So an output depends on its token, the split's bounds and nothing else.
// Splits: Flash-Decoding (Dao et al. 2023, pytorch.org/blog/flash-decoding). A split's scores all fit in workgroup memory, so the online
// softmax (Milakov and Gimelshein 2018) runs between splits only. Bounded on a big GPU by reading the pages once per kv head, 16 bytes
// (f16) a load, as soon as there are several hundred workgroups. Reference: attend in core/model/reference-attention.ts.
struct Params { items: u32, heads: u32, kvHeads: u32, group: u32, headTiles: u32, headDim: u32, pageTokens: u32, maxPages: u32, pieces: u32, blockPieces: u32, bankPages: u32, scale: f32, softcap: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> keys: array<Piece>;
@group(0) @binding(3) var<storage, read> values: array<Piece>;
@group(0) @binding(4) var<storage, read> pageTables: array<u32>;
@group(0) @binding(5) var<storage, read> slopes: array<f32>;
@group(0) @binding(6) var<storage, read> items: array<Item>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<storage, read_write> partials: array<vec4<f32>>;
#if BANKED
@group(0) @binding(9) var<storage, read> keysBeyond: array<Piece>;
@group(0) @binding(10) var<storage, read> valuesBeyond: array<Piece>;
#endif
#include "place.wgsl"
#include "kv_pages.wgsl"
#include "attention_score.wgsl"

struct Item { row: u32, sequence: u32, begin: u32, count: u32, splits: u32, partial: u32, own: u32, unused: u32 }

const SHARES = 16u;

var<workgroup> queries: array<vec4<f32>, GROUP * 2 * PIECES>;
var<workgroup> places: array<Place, SPLIT>;
/// Scores, then weights.
var<workgroup> weights: array<f32, GROUP * SPLIT>;
var<workgroup> maxima: array<f32, GROUP * 16>;
var<workgroup> totals: array<f32, GROUP * 16>;
var<workgroup> sums: array<Eight, THREADS>;

/// Heads to loop over: all GROUP where that lets arrays by head stay in registers.
fn headCount(here: u32) -> u32 {
#if UNROLLED
  return u32(GROUP);
#else
  return here;
#endif
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let units = params.kvHeads * params.headTiles;
  let unit = groupIndex(group, groups);
  if (unit >= params.items * units) { return; }
  let item = items[unit / units];
  let kvHead = (unit % units) / params.headTiles;
  let tile = unit % params.headTiles;
  let firstHead = kvHead * params.group + tile * u32(GROUP);
  let vectors = 2u * pieceCount();
  /// Positions that are weighted at once.
  let lanes = u32(THREADS) / pieceCount();
  let headsHere = min(u32(GROUP), params.group - tile * u32(GROUP));

  for (var i = thread; i < headCount(headsHere) * vectors; i += u32(THREADS)) {
    let head = i / vectors;
    var vector = vec4(0.0);
    for (var j = 0u; j < 4u; j++) {
      let channel = 4u * (i % vectors) + j;
      if (head < headsHere && channel < params.headDim) {
        vector[j] = q[(item.row * params.heads + firstHead + head) * params.headDim + channel];
      }
    }
    queries[i] = vector;
  }
  workgroupBarrier();

  // Declared out here: SwiftShader keeps an array that is declared in a loop from one turn to the next.
  var products: array<f32, GROUP>;
  for (var at = thread; at < item.count; at += u32(THREADS)) {
    let position = item.begin + at;
    let place = placeOf(item.sequence, position, kvHead);
    places[at] = place;
    products = array<f32, GROUP>();
    for (var piece = 0u; piece < pieceCount(); piece++) {
      let key = keyPiece(place, piece);
      for (var head = 0u; head < headCount(headsHere); head++) {
        let start = head * vectors + 2u * piece;
        products[head] += dot(queries[start], key.low) + dot(queries[start + 1u], key.high);
      }
    }
    let scale = keyScale(place);
    let distance = f32(i32(position) - i32(item.own));
    for (var head = 0u; head < headCount(headsHere); head++) {
      let slope = slopes[firstHead + min(head, headsHere - 1u)];
      weights[head * u32(SPLIT) + at] = scoreOf(products[head] * scale, slope, distance);
    }
  }
  workgroupBarrier();

  let own = thread / SHARES;
  let share = thread % SHARES;
  if (own < headsHere) {
    var most = LOWEST;
    for (var at = share; at < item.count; at += SHARES) { most = max(most, weights[own * u32(SPLIT) + at]); }
    maxima[thread] = most;
  }
  workgroupBarrier();
  if (own < headsHere) {
    var most = LOWEST;
    for (var i = 0u; i < SHARES; i++) { most = max(most, maxima[own * SHARES + i]); }
    var total = 0.0;
    for (var at = share; at < item.count; at += SHARES) {
      let weight = exp(weights[own * u32(SPLIT) + at] - most);
      total += weight;
      weights[own * u32(SPLIT) + at] = weight * valueScale(places[at]);
    }
    totals[thread] = total;
  }
  workgroupBarrier();

  let piece = thread % pieceCount();
  let lane = thread / pieceCount();
  var low: array<vec4<f32>, GROUP>;
  var high: array<vec4<f32>, GROUP>;
  if (lane < lanes) {
    for (var at = lane; at < item.count; at += lanes) {
      let value = valuePiece(places[at], piece);
      for (var head = 0u; head < headCount(headsHere); head++) {
        let weight = weights[head * u32(SPLIT) + at];
        low[head] += weight * value.low;
        high[head] += weight * value.high;
      }
    }
  }

#if UNROLLED
#repeat h GROUP
  sums[thread] = Eight(low[$h], high[$h]);
  workgroupBarrier();
  if ($hu < headsHere) { finish(thread, $hu, firstHead, item); }
  workgroupBarrier();
#end
#else
  for (var head = 0u; head < headsHere; head++) {
    sums[thread] = Eight(low[head], high[head]);
    workgroupBarrier();
    finish(thread, head, firstHead, item);
    workgroupBarrier();
  }
#endif
}

/// Adds up the lanes' sums of one head and writes them out.
fn finish(thread: u32, head: u32, firstHead: u32, item: Item) {
  if (thread >= pieceCount()) { return; }
  let lanes = u32(THREADS) / pieceCount();
  var sum = sums[thread];
  for (var i = 1u; i < min(lanes, item.count); i++) {
    sum.low += sums[i * pieceCount() + thread].low;
    sum.high += sums[i * pieceCount() + thread].high;
  }
  var most = LOWEST;
  var total = 0.0;
  for (var i = 0u; i < SHARES; i++) {
    most = max(most, maxima[head * SHARES + i]);
    total += totals[head * SHARES + i];
  }
  if (item.splits > 1u) {
    let at = (item.partial * params.heads + firstHead + head) * (2u * pieceCount() + 1u);
    partials[at + 2u * thread] = sum.low;
    partials[at + 2u * thread + 1u] = sum.high;
    if (thread == 0u) { partials[at + 2u * pieceCount()] = vec4(most, total, 0.0, 0.0); }
    return;
  }
  let start = (item.row * params.heads + firstHead + head) * params.headDim;
  for (var j = 0u; j < 8u; j++) {
    let channel = 8u * thread + j;
    if (channel < params.headDim) { y[start + channel] = select(sum.low[j & 3u], sum.high[j & 3u], j >= 4u) / total; }
  }
}
