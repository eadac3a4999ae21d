// GPTQ's codes as repack_gptq.wgsl lays them: codes [rows][chunks][BITS] u32, 32 channels a chunk, code i of a chunk in bits i·BITS.. of its
// words; channels are sorted by group and every group is padded to whole chunks. scales [rows/4][groups][4] f16, zeros [rows/4][groups][4] u8
// (SYM: all are 2^(BITS−1), and there is no buffer). W[n,k] = scale · (code − zero).
// A code becomes a float without a conversion: its bits put into 2^23's fraction are 2^23 + code·step, less 2^23 + zero·step, exact; the step
// (where the bits lay) is divided out of the activation. The trick with 1024 and halves: Kim et al. 2022, arXiv:2211.10017, FasterTransformer.
#if TILED
@group(0) @binding(next) var<storage, read> codes: array<u32>;
#else
#if BITS_2
alias Codes = vec2<u32>;
@group(0) @binding(next) var<storage, read> codes: array<vec2<u32>>;
#else
#if BITS_3
alias Codes = vec3<u32>;
@group(0) @binding(next) var<storage, read> codes: array<u32>;
#else
alias Codes = vec4<u32>;
@group(0) @binding(next) var<storage, read> codes: array<vec4<u32>>;
#endif
#endif
#endif
@group(0) @binding(next) var<storage, read> scales: array<vec2<u32>>;
#if !SYM
@group(0) @binding(next) var<storage, read> zeros: array<u32>;
#endif

const BASE = 8388608.0;
#if BITS_2
const STEPS = vec4<f32>(1.0, 4.0, 16.0, 64.0);
const MASKS = vec4<u32>(0x3u, 0xcu, 0x30u, 0xc0u);
#endif
#if BITS_3
const STEPS = vec4<f32>(1.0, 8.0, 64.0, 512.0);
const MASKS = vec4<u32>(0x7u, 0x38u, 0x1c0u, 0xe00u);
#endif
#if BITS_4
const STEPS = vec4<f32>(1.0, 16.0, 256.0, 4096.0);
const MASKS = vec4<u32>(0xfu, 0xf0u, 0xf00u, 0xf000u);
#endif
#if BITS_8
const STEPS = vec4<f32>(1.0, 256.0, 1.0, 256.0);
const MASKS = vec4<u32>(0xffu, 0xff00u, 0xffu, 0xff00u);
#endif
const PRESCALE = 1.0 / STEPS;

struct Terms { scales: vec4<f32>, zeros: vec4<f32> }

/// Of the four rows of a quad.
fn termsOf(quad: u32, chunk: u32) -> Terms {
  let at = quad * params.groups + chunk / params.groupChunks;
  let halves = scales[at];
#if SYM
  let zero = vec4<f32>(f32(1 << (u32(BITS) - 1u)));
#else
  let zero = vec4<f32>(unpack4xU8(zeros[at]));
#endif
  return Terms(vec4<f32>(unpack2x16float(halves.x), unpack2x16float(halves.y)), zero);
}

/// Four codes from the low bits of a word, less their zero, times STEPS.
fn centred(word: u32, zero: f32) -> vec4<f32> {
#if BITS_8
  let words = vec4<u32>(word, word, word >> 16u, word >> 16u);
#else
  let words = vec4<u32>(word);
#endif
  return bitcast<vec4<f32>>((words & MASKS) | vec4<u32>(0x4b000000u)) - (BASE + zero * STEPS);
}

struct Eight { low: vec4<f32>, high: vec4<f32> }

#if TILED
/// Channels 8·block.. of a row, times STEPS.
fn eight(row: u32, block: u32, zero: f32) -> Eight {
  let start = row * params.chunks * u32(BITS);
#if BITS_2
  let word = codes[start + block / 2u] >> (16u * (block % 2u));
  return Eight(centred(word, zero), centred(word >> 8u, zero));
#endif
#if BITS_3
  let bit = 24u * block;
  let at = start + bit / 32u;
  let shift = bit % 32u;
  var word = codes[at] >> shift;
  // 24 bits from bit 16 or 24 on run into the next word.
  if (shift > 8u) { word |= codes[at + 1u] << (32u - shift); }
  return Eight(centred(word, zero), centred(word >> 12u, zero));
#endif
#if BITS_4
  let word = codes[start + block];
  return Eight(centred(word, zero), centred(word >> 16u, zero));
#endif
#if BITS_8
  return Eight(centred(codes[start + 2u * block], zero), centred(codes[start + 2u * block + 1u], zero));
#endif
}
#else
/// One thread's share of a row at a time: 32 channels, or 16 of 8 bits.
fn load(row: u32, unit: u32) -> Codes {
  let at = row * (params.chunks * u32(CHUNK_PIECES / PIECES)) + unit;
#if BITS_3
  return Codes(codes[3u * at], codes[3u * at + 1u], codes[3u * at + 2u]);
#else
  return codes[at];
#endif
}

/// Four channels of a share, times STEPS.
fn values(share: Codes, piece: u32, zero: f32, row: u32, unit: u32) -> vec4<f32> {
#if BITS_2
  return centred(share[piece / 4u] >> (8u * (piece % 4u)), zero);
#endif
#if BITS_3
  let bit = 12u * piece;
  let shift = bit % 32u;
  let low = share[bit / 32u] >> shift;
  // 12 bits from bit 24 or 28 on run into the next word.
  let next = share[min(bit / 32u + 1u, 2u)] << (32u - shift);
  return centred(select(low, low | next, shift > 20u), zero);
#endif
#if BITS_4
  return centred(share[piece / 2u] >> (16u * (piece % 2u)), zero);
#endif
#if BITS_8
  return centred(share[piece], zero);
#endif
}
#endif

#if HALVES
struct Halves { a: vec2<f16>, b: vec2<f16>, c: vec2<f16>, d: vec2<f16> }

/// Eight codes less their zero as pairs (0, 4), (1, 5)·16, (2, 6), (3, 7)·16: 1024 and the code in its fraction, exact in f16.
fn halvesOf(word: u32, zero: f32) -> Halves {
  let ones = vec2<f16>(f16(1024.0 + zero));
  let sixteens = vec2<f16>(f16(1024.0 + 16.0 * zero));
  let rest = word >> 8u;
  return Halves(
    bitcast<vec2<f16>>((word & 0x000f000fu) | 0x64006400u) - ones,
    bitcast<vec2<f16>>((word & 0x00f000f0u) | 0x64006400u) - sixteens,
    bitcast<vec2<f16>>((rest & 0x000f000fu) | 0x64006400u) - ones,
    bitcast<vec2<f16>>((rest & 0x00f000f0u) | 0x64006400u) - sixteens,
  );
}

fn dotOfHalves(x: vec4<u32>, w: Halves) -> f32 {
  let sum = bitcast<vec2<f16>>(x.x) * w.a + bitcast<vec2<f16>>(x.y) * w.b + bitcast<vec2<f16>>(x.z) * w.c + bitcast<vec2<f16>>(x.w) * w.d;
  return f32(sum.x + sum.y);
}
#endif

fn prepare(thread: u32) {}
