// paged_attention_decode.wgsl's result for runs of tokens that follow one another in their sequence: one workgroup takes 64 rows (a row: one
// token and one query head of the workgroup's kv head, heads fastest) and walks over their positions in tiles of 32 keys with the
// online softmax of FlashAttention-2 (Dao 2023, arXiv:2307.08691, algorithm 1). Positions that no row of the tile sees are not touched.
// q, y [tokens, heads·headDim] f32; keys, values: pages (kv_pages.wgsl); pageTables [sequences, maxPages] u32; slopes [heads] f32;
// tiles [tiles] = first token row of the run, its tokens, its first position, table row, number of the tile in the run, 0, 0, 0.
// 256 threads: thread (rows = t / 16, lane = t % 16) has rows 4·rows .. +3, of the scores the keys lane and lane + 16, and of the sums
// channels 64·chunk + 4·lane .. +3. Keys and values pass through workgroup memory by 64 channels as f32, 21 KiB in all; WIDE: headDim > 64,
// WIDEST: > 128, up to 256. QUADS: headDim is a multiple of 4, q and y go by 16 bytes. Sums in f32, over tiles in order, in a tile in order of keys.
// Bounded by f32 FMAs and the reads from workgroup memory that feed them (one of 16 bytes for 5 FMAs × 4); no subgroup matrices.
// Reference: attend in core/model/reference-attention.ts.
struct Params { tiles: u32, heads: u32, kvHeads: u32, group: u32, headDim: u32, pageTokens: u32, maxPages: u32, pieces: u32, blockPieces: u32, bankPages: u32, window: u32, scale: f32, softcap: f32 }
@group(0) @binding(0) var<uniform> params: Params;
#if QUADS
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
#else
@group(0) @binding(1) var<storage, read> q: array<f32>;
#endif
@group(0) @binding(2) var<storage, read> keys: array<Piece>;
@group(0) @binding(3) var<storage, read> values: array<Piece>;
@group(0) @binding(4) var<storage, read> pageTables: array<u32>;
@group(0) @binding(5) var<storage, read> slopes: array<f32>;
@group(0) @binding(6) var<storage, read> tiles: array<Tile>;
#if QUADS
@group(0) @binding(7) var<storage, read_write> y: array<vec4<f32>>;
#else
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
#endif
#if BANKED
@group(0) @binding(8) var<storage, read> keysBeyond: array<Piece>;
@group(0) @binding(9) var<storage, read> valuesBeyond: array<Piece>;
#endif
#include "place.wgsl"
#include "kv_pages.wgsl"
#include "attention_score.wgsl"

struct Tile { begin: u32, tokens: u32, position: u32, sequence: u32, number: u32, unused1: u32, unused2: u32, unused3: u32 }

const THREADS = 256u;
const ROWS = 64u;
const KEYS = 32u;
/// vec4s of 64 channels, and one more so that rows of keys begin in different banks.
const STRIDE = 17u;

var<workgroup> staged: array<vec4<f32>, 544>;
/// [KEYS, ROWS / 4] weights of four rows
var<workgroup> weights: array<vec4<f32>, 512>;
var<workgroup> shares: array<vec4<f32>, 256>;
var<workgroup> places: array<Place, 32>;

struct Row { token: u32, head: u32, position: u32, isReal: bool }

fn rowOf(tile: Tile, kvHead: u32, at: u32) -> Row {
  let row = tile.number * ROWS + at;
  let last = tile.tokens * params.group - 1u;
  let inRun = min(row, last) / params.group;
  return Row(tile.begin + inRun, kvHead * params.group + min(row, last) % params.group, tile.position + inRun, row <= last);
}

fn startOf(row: Row) -> u32 { return (row.token * params.heads + row.head) * params.headDim; }

/// Channels channel .. channel + 3 of the row that starts at `start`, zeros beyond its end.
fn queryAt(start: u32, channel: u32) -> vec4<f32> {
#if QUADS
  if (channel >= params.headDim) { return vec4(0.0); }
  return q[(start + channel) / 4u];
#else
  var four = vec4(0.0);
  for (var j = 0u; j < 4u; j++) {
    if (channel + j < params.headDim) { four[j] = q[start + channel + j]; }
  }
  return four;
#endif
}

fn stage(key: u32, piece: u32, eight: Eight, scale: f32) {
  staged[key * STRIDE + 2u * piece] = eight.low * scale;
  staged[key * STRIDE + 2u * piece + 1u] = eight.high * scale;
}

/// Neighbouring threads take neighbouring keys, as keys lie.
fn stageKeys(thread: u32, count: u32, chunk: u32) {
  let key = thread % KEYS;
  let piece = thread / KEYS;
  if (key < count && 8u * chunk + piece < pieceCount()) {
    stage(key, piece, keyPiece(places[key], 8u * chunk + piece), keyScale(places[key]));
  } else {
    stage(key, piece, Eight(vec4(0.0), vec4(0.0)), 0.0);
  }
}

/// Neighbouring threads take neighbouring pieces, as values lie.
fn stageValues(thread: u32, count: u32, chunk: u32) {
  let key = thread / 8u;
  let piece = thread % 8u;
  if (key < count && 8u * chunk + piece < pieceCount()) {
    stage(key, piece, valuePiece(places[key], 8u * chunk + piece), valueScale(places[key]));
  } else {
    stage(key, piece, Eight(vec4(0.0), vec4(0.0)), 0.0);
  }
}

/// Sums of four rows over 4 channels.
struct Sums { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32> }

/// sums · fade + the weights of the tile times the staged values.
fn weighted(sums: Sums, fade: vec4<f32>, count: u32, rows: u32, lane: u32) -> Sums {
  var next = Sums(sums.a * fade.x, sums.b * fade.y, sums.c * fade.z, sums.d * fade.w);
  for (var key = 0u; key < count; key++) {
    let weight = weights[key * 16u + rows];
    let value = staged[key * STRIDE + lane];
    next.a += weight.x * value;
    next.b += weight.y * value;
    next.c += weight.z * value;
    next.d += weight.w * value;
  }
  return next;
}

fn writeFour(row: Row, channel: u32, four: vec4<f32>) {
  if (!row.isReal) { return; }
#if QUADS
  if (channel < params.headDim) { y[(startOf(row) + channel) / 4u] = four; }
#else
  for (var j = 0u; j < 4u; j++) {
    if (channel + j < params.headDim) { y[startOf(row) + channel + j] = four[j]; }
  }
#endif
}

fn writeSums(a: Row, b: Row, c: Row, d: Row, channel: u32, sums: Sums, total: vec4<f32>) {
  writeFour(a, channel, sums.a / total.x);
  writeFour(b, channel, sums.b / total.y);
  writeFour(c, channel, sums.c / total.z);
  writeFour(d, channel, sums.d / total.w);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let unit = groupIndex(group, groups);
  if (unit >= params.tiles * params.kvHeads) { return; }
  let tile = tiles[unit / params.kvHeads];
  let kvHead = unit % params.kvHeads;
  let rows = thread / 16u;
  let lane = thread % 16u;
  let rowA = rowOf(tile, kvHead, 4u * rows);
  let rowB = rowOf(tile, kvHead, 4u * rows + 1u);
  let rowC = rowOf(tile, kvHead, 4u * rows + 2u);
  let rowD = rowOf(tile, kvHead, 4u * rows + 3u);
  let own = vec4(rowA.position, rowB.position, rowC.position, rowD.position);
  let slope = vec4(slopes[rowA.head], slopes[rowB.head], slopes[rowC.head], slopes[rowD.head]);

  let lowest = rowOf(tile, kvHead, 0u).position + 1u;
  let end = rowOf(tile, kvHead, ROWS - 1u).position + 1u;
  var most = vec4(LOWEST);
  var total = vec4(0.0);
  var sums0 = Sums();
#if WIDE
  var sums1 = Sums();
#endif
#if WIDEST
  var sums2 = Sums();
  var sums3 = Sums();
#endif
  for (var first = lowest - min(lowest, params.window); first < end; first += KEYS) {
    let count = min(KEYS, end - first);
    if (thread < count) { places[thread] = placeOf(tile.sequence, first + thread, kvHead); }
    var near = vec4(0.0);
    var far = vec4(0.0);
    for (var chunk = 0u; 8u * chunk < pieceCount(); chunk++) {
      workgroupBarrier();
      stageKeys(thread, count, chunk);
      workgroupBarrier();
      for (var at = 0u; at < min(16u, 2u * pieceCount() - 16u * chunk); at++) {
        let channel = 64u * chunk + 4u * at;
        let nearKey = staged[lane * STRIDE + at];
        let farKey = staged[(lane + 16u) * STRIDE + at];
        let a = queryAt(startOf(rowA), channel);
        let b = queryAt(startOf(rowB), channel);
        let c = queryAt(startOf(rowC), channel);
        let d = queryAt(startOf(rowD), channel);
        near += vec4(dot(a, nearKey), dot(b, nearKey), dot(c, nearKey), dot(d, nearKey));
        far += vec4(dot(a, farKey), dot(b, farKey), dot(c, farKey), dot(d, farKey));
      }
    }
    let nearPosition = vec4(first + lane);
    let farPosition = vec4(first + lane + 16u);
    let seesNear = (nearPosition <= own) & (own - nearPosition < vec4(params.window));
    let seesFar = (farPosition <= own) & (own - farPosition < vec4(params.window));
    near = select(vec4(LOWEST), scores(near, slope, nearPosition, own), seesNear);
    far = select(vec4(LOWEST), scores(far, slope, farPosition, own), seesFar);

    shares[thread] = max(near, far);
    workgroupBarrier();
    var next = most;
    for (var i = 0u; i < 16u; i++) { next = max(next, shares[rows * 16u + i]); }
    // A row that has seen nothing yet has sums of 0, so any finite factor will do.
    let fade = exp(max(most - next, vec4(-200.0)));
    most = next;
    near = select(vec4(0.0), exp(near - next), seesNear);
    far = select(vec4(0.0), exp(far - next), seesFar);
    total = total * fade + (near + far);
    weights[lane * 16u + rows] = near;
    weights[(lane + 16u) * 16u + rows] = far;
    stageValues(thread, count, 0u);
    workgroupBarrier();
    sums0 = weighted(sums0, fade, count, rows, lane);
#if WIDE
    workgroupBarrier();
    stageValues(thread, count, 1u);
    workgroupBarrier();
    sums1 = weighted(sums1, fade, count, rows, lane);
#endif
#if WIDEST
    workgroupBarrier();
    stageValues(thread, count, 2u);
    workgroupBarrier();
    sums2 = weighted(sums2, fade, count, rows, lane);
    workgroupBarrier();
    stageValues(thread, count, 3u);
    workgroupBarrier();
    sums3 = weighted(sums3, fade, count, rows, lane);
#endif
    workgroupBarrier();
  }

  shares[thread] = total;
  workgroupBarrier();
  total = vec4(0.0);
  for (var i = 0u; i < 16u; i++) { total += shares[rows * 16u + i]; }
  writeSums(rowA, rowB, rowC, rowD, 4u * lane, sums0, total);
#if WIDE
  writeSums(rowA, rowB, rowC, rowD, 64u + 4u * lane, sums1, total);
#endif
#if WIDEST
  writeSums(rowA, rowB, rowC, rowD, 128u + 4u * lane, sums2, total);
  writeSums(rowA, rowB, rowC, rowD, 192u + 4u * lane, sums3, total);
#endif
}

fn scores(products: vec4<f32>, slope: vec4<f32>, position: vec4<u32>, own: vec4<u32>) -> vec4<f32> {
  let distance = vec4<f32>(vec4<i32>(position) - vec4<i32>(own));
  return vec4(
    scoreOf(products.x, slope.x, distance.x),
    scoreOf(products.y, slope.y, distance.y),
    scoreOf(products.z, slope.z, distance.z),
    scoreOf(products.w, slope.w, distance.w),
  );
}
