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
#include "halves.wgsl"

/// 1024 and a code (times a power of two) in its fraction, exact in f16, less 1024 and as many times the zero.
fn pairOf(bits: u32, base: vec2<f16>) -> vec2<f16> {
  return bitcast<vec2<f16>>(bits | 0x64006400u) - base;
}

fn baseOf(zero: f32) -> vec2<f16> {
  return vec2<f16>(f16(1024.0 + zero));
}

/// Eight codes less their zero, in pairs of ORDER BITS of prepare_halves.wgsl. `piece` of the share's eights.
fn halvesOf(share: Codes, piece: u32, zero: f32) -> Halves {
#if BITS_2
  let word = share[piece / 2u] >> (8u * (piece % 2u));
  return Halves(
    pairOf(word & 0x00030003u, baseOf(zero)),
    pairOf(word & 0x000c000cu, baseOf(4.0 * zero)),
    pairOf(word & 0x00300030u, baseOf(16.0 * zero)),
    pairOf(word & 0x00c000c0u, baseOf(64.0 * zero)),
  );
#endif
#if BITS_3
  // Fifteen bits of either half of the chunk's 96: codes 0..4 and 16..20, and so on; the last of either are alone.
  let second = vec2<u32>((share.y >> 16u) | (share.z << 16u), share.z >> 16u);
  let fives = vec3<u32>(
    (share.x & 0x7fffu) | (second.x << 16u),
    ((share.x >> 15u) & 0x7fffu) | ((second.x >> 15u) << 16u),
    (((share.x >> 30u) | (share.y << 2u)) & 0x7fffu) | (((second.x >> 30u) | (second.y << 2u)) << 16u),
  );
  let last = ((share.y >> 13u) & 7u) | ((second.y >> 13u) << 16u);
  switch piece {
    case 0u: {
      return Halves(ones(fives.x, zero), eights(fives.x, zero), sixtyFours(fives.x, zero), ones(fives.x >> 9u, zero));
    }
    case 1u: {
      return Halves(eights(fives.x >> 9u, zero), ones(fives.y, zero), eights(fives.y, zero), sixtyFours(fives.y, zero));
    }
    case 2u: {
      return Halves(ones(fives.y >> 9u, zero), eights(fives.y >> 9u, zero), ones(fives.z, zero), eights(fives.z, zero));
    }
    default: {
      return Halves(sixtyFours(fives.z, zero), ones(fives.z >> 9u, zero), eights(fives.z >> 9u, zero), ones(last, zero));
    }
  }
#endif
#if BITS_4
  let word = share[piece];
  return Halves(
    pairOf(word & 0x000f000fu, baseOf(zero)),
    pairOf(word & 0x00f000f0u, baseOf(16.0 * zero)),
    pairOf((word >> 8u) & 0x000f000fu, baseOf(zero)),
    pairOf((word >> 8u) & 0x00f000f0u, baseOf(16.0 * zero)),
  );
#endif
#if BITS_8
  let base = baseOf(zero);
  let low = share[2u * piece];
  let high = share[2u * piece + 1u];
  return Halves(
    pairOf(low & 0x00ff00ffu, base),
    pairOf((low >> 8u) & 0x00ff00ffu, base),
    pairOf(high & 0x00ff00ffu, base),
    pairOf((high >> 8u) & 0x00ff00ffu, base),
  );
#endif
}

#if BITS_3
fn ones(fives: u32, zero: f32) -> vec2<f16> { return pairOf(fives & 0x00070007u, baseOf(zero)); }
fn eights(fives: u32, zero: f32) -> vec2<f16> { return pairOf(fives & 0x00380038u, baseOf(8.0 * zero)); }
fn sixtyFours(fives: u32, zero: f32) -> vec2<f16> { return pairOf(fives & 0x01c001c0u, baseOf(64.0 * zero)); }
#endif
#endif

fn prepare(thread: u32) {}
