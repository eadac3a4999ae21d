/** Onnx: one MatMulNBits node as an ONNX model (onnx.proto3 field numbers; com.microsoft's operator: onnxruntime/docs/ContribOperators.md). */
import { RandomWords } from '../../gpu-worker/bench/random-words.ts';

export interface MatMulShape {
  out: number;
  in: number;
  bits: number;
  blockSize: number;
}

/** onnx.proto3 */
const TYPES = { float32: 1, uint8: 2 };
const INTEGER_ATTRIBUTE = 2;
const SEED = 1;
/** Activations rounded to int8: the fastest that the operator offers. */
const ACCURACY_LEVEL = 4;

/** y [1, out] = x [1, in] · Wᵀ with random 4-bit weights and f32 scales, symmetric. */
export function matMulNBits({ out, in: inFeatures, bits, blockSize }: MatMulShape): Uint8Array {
  const blocks = inFeatures / blockSize;
  const random = new RandomWords(SEED);
  const scale = Math.sqrt(12) / 2 ** bits / Math.sqrt(inFeatures);
  const packed = random.bytes((out * inFeatures * bits) / 8);
  const scales = new Uint8Array(random.uniform(out * blocks, 0.75 * scale, 1.25 * scale).buffer);
  const attributes = { K: inFeatures, N: out, bits, block_size: blockSize, accuracy_level: ACCURACY_LEVEL };
  const node = message([
    ...['x', 'w', 'scales'].map((name) => field(1, name)),
    field(2, 'y'),
    field(4, 'MatMulNBits'),
    ...Object.entries(attributes).map(([name, value]) =>
      field(5, message([field(1, name), field(3, value), field(20, INTEGER_ATTRIBUTE)])),
    ),
    field(7, 'com.microsoft'),
  ]);
  const graph = message([
    field(1, node),
    field(2, 'gemv'),
    field(5, tensor('w', TYPES.uint8, [out, blocks, (blockSize * bits) / 8], packed)),
    field(5, tensor('scales', TYPES.float32, [out * blocks], scales)),
    field(11, value('x', [1, inFeatures])),
    field(12, value('y', [1, out])),
  ]);
  return message([
    field(1, 8),
    field(7, graph),
    field(8, message([field(1, ''), field(2, 21)])),
    field(8, message([field(1, 'com.microsoft'), field(2, 1)])),
  ]);
}

function tensor(name: string, type: number, dimensions: number[], bytes: Uint8Array): Buffer {
  return message([...dimensions.map((size) => field(1, size)), field(2, type), field(8, name), field(9, bytes)]);
}

function value(name: string, dimensions: number[]): Buffer {
  const shape = message(dimensions.map((size) => field(1, message([field(1, size)]))));
  return message([field(1, name), field(2, message([field(1, message([field(1, TYPES.float32), field(2, shape)]))]))]);
}

function message(fields: readonly Buffer[]): Buffer {
  return Buffer.concat(fields);
}

/** Protocol buffers: a whole number as a varint, anything else with its length before it. */
function field(number: number, content: number | string | Uint8Array): Buffer {
  if (typeof content === 'number') return Buffer.concat([varint(number << 3), varint(content)]);
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}
