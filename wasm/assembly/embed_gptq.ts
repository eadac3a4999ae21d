// embed_gptq: y[t,k] = (value[ids[t],k] - zero[ids[t],G]) * weightScale[ids[t],G] * scale
//   bits  2, 3, 4 or 8
//   q, weightScale, zero (0: symmetric), groupOctets  the table as linear_chunks.ts lays it out
//   channels  [octets * 8] i32, the channel in each place, cols for none; 0: place k holds channel k
//   ids       [count] i32, checked by the caller
//   y         [count, cols] f32
// Two multiplications a value, the first exact. Split by ids. One value at a time: a step needs one row a token.
// Reference: test/wasm/oracle.ts, dequantize.

import { weightBytes } from './chunk_format';
import { share } from './task';

/** Place c of row r in the octet at q. */
function valueAt(bits: i32, q: usize, r: u32, c: u32): i32 {
  if (bits == 4) return load<u8>(q + (r << 2) + (c & 3)) >> <u8>(c & 4) & 15;
  if (bits == 8) return load<u8>(q + ((c & 4) << 3) + (r << 2) + (c & 3));
  const low = load<u8>(q + ((r & 3) << 2) + (c & 3)) >> <u8>(r >> 2 << 1 | c & 4) & 3;
  if (bits == 2) return low;
  return low | (load<u8>(q + 16 + ((r & 1) << 2) + (c & 3)) >> <u8>(r >> 2 | c >> 2 << 1 | (r & 2) << 1) & 1) << 2;
}

/** A finite f16 as f32. */
@inline function half(bits: u32): f32 {
  return reinterpret<f32>((bits & 0x7fff) << 13 | (bits & 0x8000) << 16) * <f32>5.192296858534828e33;
}

export function embed_gptq(task: usize, part: i32, parts: i32): void {
  const bits = load<i32>(task), q = load<usize>(task, 4), scales = load<usize>(task, 8), zeros = load<usize>(task, 12);
  const groupOctets = load<usize>(task, 16), channels = load<usize>(task, 20), ids = load<usize>(task, 24), y = load<usize>(task, 28);
  const count = load<i32>(task, 32), cols = load<i32>(task, 36), groups = load<i32>(task, 40), octets = load<i32>(task, 44), scale = load<f32>(task, 48);
  const bytes = weightBytes(bits), end = share(count, part + 1, parts);
  for (let i = share(count, part, parts); i < end; i++) {
    const id = load<i32>(ids + (<usize>i << 2)), to = y + (<usize>i * cols << 2), r = id & 7;
    let octet = q + <usize>(id >> 3) * octets * bytes, place: u32 = 0;
    for (let group = 0; group < groups; group++) {
      const at = <usize>((id >> 3) * groups + group) << 3 | r;
      const weightScale = half(load<u16>(scales + (at << 1))), zero = zeros == 0 ? 1 << (bits - 1) : load<u8>(zeros + at);
      for (let left = load<i32>(groupOctets + (<usize>group << 2)) << 3; left > 0; left--, place++) {
        const channel = channels == 0 ? place : load<u32>(channels + (place << 2));
        if (channel < <u32>cols) store<f32>(to + (channel << 2), <f32>(valueAt(bits, octet, r, place & 7) - zero) * weightScale * scale);
        if ((place & 7) == 7) octet += bytes;
      }
    }
  }
}
