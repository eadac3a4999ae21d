// Plain weights [rows][chunks][32] in f32, f16 or bf16, as they lie in a checkpoint, rows padded to whole chunks. Widened when read.
#if DTYPE_F32
alias Codes = vec4<f32>;
@group(0) @binding(next) var<storage, read> codes: array<vec4<f32>>;
#else
alias Codes = vec4<u32>;
@group(0) @binding(next) var<storage, read> codes: array<vec4<u32>>;
#endif
const PRESCALE = vec4<f32>(1.0);

struct Terms { scales: vec4<f32>, zeros: vec4<f32> }

fn termsOf(quad: u32, chunk: u32) -> Terms {
  return Terms(vec4<f32>(1.0), vec4<f32>());
}

fn widened(halves: vec2<u32>) -> vec4<f32> {
#if DTYPE_F16
  return vec4<f32>(unpack2x16float(halves.x), unpack2x16float(halves.y));
#else
  return bitcast<vec4<f32>>(vec4<u32>(halves.x << 16u, halves.x & 0xffff0000u, halves.y << 16u, halves.y & 0xffff0000u));
#endif
}

struct Eight { low: vec4<f32>, high: vec4<f32> }

#if TILED
/// Channels 8·block.. of a row.
fn eight(row: u32, block: u32, zero: f32) -> Eight {
  let at = row * params.chunks * 4u + block;
#if DTYPE_F32
  return Eight(codes[2u * at], codes[2u * at + 1u]);
#else
  let words = codes[at];
  return Eight(widened(words.xy), widened(words.zw));
#endif
}

#else
/// One thread's share of a row at a time: 16 bytes.
fn load(row: u32, unit: u32) -> Codes {
  return codes[row * (params.chunks * u32(CHUNK_PIECES / PIECES)) + unit];
}

fn values(share: Codes, piece: u32, zero: f32, row: u32, unit: u32) -> vec4<f32> {
#if DTYPE_F32
  return share;
#else
  return widened(select(share.xy, share.zw, piece == 1u));
#endif
}
#endif

fn prepare(thread: u32) {}
