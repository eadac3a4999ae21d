// bitsandbytes' 4-bit codes as repack_bnb4.wgsl lays them: codes [rows][chunks][4] u32, code i of a chunk in bits 4i.. of its words.
// W[n,k] = table[code] · absmax[block of (n, k)]. table [16] f32 (NESTED: [16 + 256], the second for absmax), kept in workgroup memory.
// Blocks run over the flattened weight. Usually no chunk meets two: scales [rows/4][groups][4] f32.
// NESTED: scales [rows/4][groups][4] u8 codes, absmax = table[16 + code] · nested[block ÷ nestedBlock] + nestedOffset, with as many blocks as groups a row.
// STRADDLE: blocks end inside chunks: scales [blocks] f32, looked up value by value.
#if TILED
@group(0) @binding(next) var<storage, read> codes: array<u32>;
#else
alias Codes = vec4<u32>;
@group(0) @binding(next) var<storage, read> codes: array<vec4<u32>>;
#endif
@group(0) @binding(next) var<storage, read> tables: array<f32>;
#if STRADDLE
@group(0) @binding(next) var<storage, read> scales: array<f32>;
#else
#if NESTED
@group(0) @binding(next) var<storage, read> scales: array<u32>;
@group(0) @binding(next) var<storage, read> nested: array<f32>;
#else
@group(0) @binding(next) var<storage, read> scales: array<vec4<f32>>;
#endif
#endif
const PRESCALE = vec4<f32>(1.0);

#if NESTED
const TABLE_SIZE = 272u;
#else
const TABLE_SIZE = 16u;
#endif
var<workgroup> table: array<f32, TABLE_SIZE>;

#if HALVES
#include "halves.wgsl"
/// The table's first 16 as f16 in the low and in the high half of a word.
var<workgroup> lows: array<u32, 16>;
var<workgroup> highs: array<u32, 16>;

fn pairOf(word: u32) -> vec2<f16> {
  return bitcast<vec2<f16>>(lows[word & 15u] | highs[(word >> 4u) & 15u]);
}

/// `piece` of the share's eights, in order.
fn halvesOf(share: vec4<u32>, piece: u32, zero: f32) -> Halves {
  let word = share[piece];
  return Halves(pairOf(word), pairOf(word >> 8u), pairOf(word >> 16u), pairOf(word >> 24u));
}
#endif

fn prepare(thread: u32) {
#if HALVES
  for (var i = thread; i < 16u; i += u32(THREADS)) {
    lows[i] = pack2x16float(vec2<f32>(tables[i], 0.0));
    highs[i] = pack2x16float(vec2<f32>(0.0, tables[i]));
  }
#endif
  for (var i = thread; i < TABLE_SIZE; i += u32(THREADS)) { table[i] = tables[i]; }
  workgroupBarrier();
}

struct Terms { scales: vec4<f32>, zeros: vec4<f32> }

fn termsOf(quad: u32, chunk: u32) -> Terms {
#if STRADDLE
  return Terms(vec4<f32>(1.0), vec4<f32>());
#else
  let group = chunk / params.groupChunks;
#if NESTED
  let code = unpack4xU8(scales[quad * params.groups + group]);
  var firstBlock = params.firstBlock;
  var offset = params.nestedOffset;
#if JOINED
  if (4u * quad >= params.end0) {
    firstBlock = params.firstBlock1;
    offset = params.nestedOffset1;
  }
  if (4u * quad >= params.end1) {
    firstBlock = params.firstBlock2;
    offset = params.nestedOffset2;
  }
#endif
  // Rows beyond the last have no block; the index stays in the buffer.
  let block = firstBlock + (4u * quad + vec4<u32>(0u, 1u, 2u, 3u)) * params.groups + group;
  let at = min(block / params.nestedBlock, vec4<u32>(arrayLength(&nested) - 1u));
  let outer = vec4<f32>(nested[at.x], nested[at.y], nested[at.z], nested[at.w]);
  let inner = vec4<f32>(table[16u + code.x], table[16u + code.y], table[16u + code.z], table[16u + code.w]);
  return Terms(inner * outer + offset, vec4<f32>());
#else
  return Terms(scales[quad * params.groups + group], vec4<f32>());
#endif
#endif
}

/// Four codes from the low bits of a word. STRADDLE: with their scales; `channel` is the first's.
fn looked(word: u32, row: u32, channel: u32) -> vec4<f32> {
  let found = vec4<f32>(table[word & 15u], table[(word >> 4u) & 15u], table[(word >> 8u) & 15u], table[(word >> 12u) & 15u]);
#if STRADDLE
  let block = (params.blockOffset + row * params.inFeatures + channel + vec4<u32>(0u, 1u, 2u, 3u)) / params.blockSize;
  // Padding and rows beyond the last have no block; their activations are zeros or their outputs dropped.
  let at = min(block, vec4<u32>(arrayLength(&scales) - 1u));
  return found * vec4<f32>(scales[at.x], scales[at.y], scales[at.z], scales[at.w]);
#else
  return found;
#endif
}

struct Eight { low: vec4<f32>, high: vec4<f32> }

#if TILED
/// Channels 8·block.. of a row.
fn eight(row: u32, block: u32, zero: f32) -> Eight {
  let word = codes[row * params.chunks * 4u + block];
  return Eight(looked(word, row, 8u * block), looked(word >> 16u, row, 8u * block + 4u));
}
#else
/// One thread's share of a row at a time: 32 channels.
fn load(row: u32, unit: u32) -> Codes {
  return codes[row * params.chunks + unit];
}

fn values(share: Codes, piece: u32, zero: f32, row: u32, unit: u32) -> vec4<f32> {
  return looked(share[piece / 2u] >> (16u * (piece % 2u)), row, 32u * unit + 4u * piece);
}
#endif
