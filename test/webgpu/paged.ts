/** Paged: sequences in shuffled pages on the device, everything unwritten not a number, and what the pages hold read back for the oracle. */
import type { Activation, Batch, KvShape } from '../../core/model/backend.ts';
import { KeyValues, type KeyValuesOptions } from '../../gpu-worker/webgpu/key-values.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { StepInputs } from '../../gpu-worker/webgpu/step-inputs.ts';
import { halfToNumber } from '../wasm/oracle.ts';
import { place } from './gpu-under-test.ts';

/** One layer, its pages all NaN (int8: with scales that are). */
export function allocate(space: Space, shape: Omit<KvShape, 'layers'>, options: Partial<KeyValuesOptions> = {}) {
  const kv = new KeyValues(space, { ...shape, layers: 1 }, { deterministic: false, ...options });
  const { keys, values } = kv.pages(0);
  for (const buffer of [...keys, ...values]) space.gpu.write(buffer, 0, new Uint8Array(buffer.size).fill(0xff));
  return kv;
}

export function begin(space: Space, batch: Batch): StepInputs {
  space.activations.begin();
  return new StepInputs(space, batch);
}

/** Writes k and v [tokens, kvHeads·headDim] of a batch, unrotated. */
export function writePages(space: Space, kv: KeyValues, batch: Batch, k: Float32Array, v: Float32Array): void {
  const { kvHeads, headDim } = kv.shape;
  const step = begin(space, batch);
  const none: Activation = place(space, new Float32Array(step.tokens * headDim), headDim);
  kv.ropeKv(step, 0, none, place(space, k, kvHeads * headDim), place(space, v, kvHeads * headDim), null);
}

/** [pages·pageTokens, kvHeads·headDim] as the pages hold them. */
export async function readPages({ gpu }: Space, kv: KeyValues): Promise<{ keys: Float32Array; values: Float32Array }> {
  const { keys, values } = kv.pages(0);
  const plane = async (buffers: GPUBuffer[]) => {
    const banks = await Promise.all(buffers.map((buffer) => gpu.read(buffer, buffer.size)));
    const whole = new Uint8Array(banks.reduce((sum, bank) => sum + bank.byteLength, 0));
    let at = 0;
    for (const bank of banks) {
      // A bank's end is rounded up; only the last one's matters.
      const bytes = Math.floor(bank.byteLength / kv.layout.pageBytes) * kv.layout.pageBytes;
      whole.set(new Uint8Array(bank, 0, bytes), at);
      at += bytes;
    }
    return whole;
  };
  return {
    keys: unpaged(kv, await plane(keys), (piece, token, _, pageTokens) => piece * pageTokens + token),
    values: unpaged(kv, await plane(values), (piece, token, pieces) => token * pieces + piece),
  };
}

function unpaged(
  { shape, layout }: KeyValues,
  bytes: Uint8Array,
  placeOf: (piece: number, token: number, pieces: number, pageTokens: number) => number,
): Float32Array {
  const { pages, pageTokens, kvHeads, headDim } = shape;
  const { pieces, pieceBytes, blockPieces, dtype } = layout;
  const view = new DataView(bytes.buffer);
  const result = new Float32Array(pages * pageTokens * kvHeads * headDim);
  result.forEach((_, at) => {
    const [channel, head] = [at % headDim, Math.floor(at / headDim) % kvHeads];
    const slot = Math.floor(at / (headDim * kvHeads));
    const [page, token] = [Math.floor(slot / pageTokens), slot % pageTokens];
    const block = (page * kvHeads + head) * blockPieces * pieceBytes;
    const piece = block + placeOf(Math.floor(channel / 8), token, pieces, pageTokens) * pieceBytes;
    const scale = block + pieces * pageTokens * pieceBytes + 4 * token;
    result[at] = {
      f32: () => view.getFloat32(piece + 4 * (channel % 8), true),
      f16: () => halfOf(view.getUint16(piece + 2 * (channel % 8), true)),
      int8: () => view.getInt8(piece + (channel % 8)) * view.getFloat32(scale, true),
    }[dtype]();
  });
  return result;
}

const halfOf = (bits: number) => ((bits & 0x7c00) === 0x7c00 ? Number.NaN : halfToNumber(bits));
