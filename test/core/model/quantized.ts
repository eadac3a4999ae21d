/** Quantized: a fixture's linears rounded to nearest in GPTQ's layout, and the plain checkpoint they stand for. */
import type { CheckpointFiles } from '../../../core/formats/checkpoint-index.ts';
import { type GptqConfig, packGptq } from '../../../core/formats/gptq.ts';
import { f16ToF32, f32ToF16 } from '../../../core/formats/half.ts';
import { readPlainWeight } from '../../../core/formats/plain.ts';
import type { TableRows } from '../../../core/formats/requantize.ts';
import type { Dtype } from '../../../core/formats/safetensors-header.ts';
import type { GptqWeight, LinearWeight } from '../../../core/model/backend.ts';
import { dequantize } from '../../../core/model/reference-weights.ts';
import type { Fixture } from './fixtures.ts';

const GROUP_SIZE = 16;

export const GPTQ_CONFIG: GptqConfig = {
  bits: 4,
  groupSize: GROUP_SIZE,
  actOrder: false,
  symmetric: false,
  zeroOffset: 1,
  plainModules: [],
};

type Tensors = Map<string, { dtype: Dtype; shape: readonly number[]; bytes: Uint8Array }>;

type QuantizeLinear = (
  values: Float32Array,
  outFeatures: number,
  inFeatures: number,
  prefix: string,
) => LinearWeight | Promise<LinearWeight>;

/** The fixture's checkpoint with every linear of its layers as `quantize` packs it, then written by `write`. */
async function rewritten(
  { config, checkpoint }: Fixture,
  write: (prefix: string, weight: LinearWeight, tensors: Tensors) => void,
  quantize: QuantizeLinear,
): Promise<CheckpointFiles> {
  const tensors: Tensors = new Map();
  for (const [name, { dtype, shape }] of checkpoint.tensors) {
    const [outFeatures, inFeatures] = shape;
    const isLinear = name.startsWith(config.tensors.layers) && name.endsWith('.weight') && shape.length === 2;
    if (!isLinear) {
      tensors.set(name, { dtype, shape, bytes: await checkpoint.read(name) });
      continue;
    }
    const prefix = name.slice(0, -'.weight'.length);
    const plain = { outFeatures: outFeatures!, inFeatures: inFeatures!, bias: 'none' } as const;
    const values = dequantize(await readPlainWeight(checkpoint, prefix, plain));
    write(prefix, await quantize(values, plain.outFeatures, plain.inFeatures, prefix), tensors);
  }
  return checkpointOf(tensors);
}

export function gptqCheckpoint(fixture: Fixture): Promise<CheckpointFiles> {
  const i32 = (values: Int32Array, shape: number[]) => ({
    dtype: 'I32' as const,
    shape,
    bytes: new Uint8Array(values.buffer),
  });
  return rewritten(
    fixture,
    (prefix, weight, tensors) => {
      const { outFeatures, inFeatures, bits, qweight, qzeros, scales } = weight as GptqWeight;
      const groups = inFeatures / GROUP_SIZE;
      tensors.set(`${prefix}.qweight`, i32(qweight, [(inFeatures * bits) / 32, outFeatures]));
      tensors.set(`${prefix}.qzeros`, i32(qzeros, [groups, (outFeatures * bits) / 32]));
      const bytes = new Uint8Array(scales.buffer);
      tensors.set(`${prefix}.scales`, { dtype: 'F16', shape: [groups, outFeatures], bytes });
    },
    roundToNearest,
  );
}

/** The same model with plain weights that `quantize` stands for. */
export function dequantisedCheckpoint(fixture: Fixture, quantize: QuantizeLinear): Promise<CheckpointFiles> {
  return rewritten(
    fixture,
    (prefix, weight, tensors) => {
      const bytes = new Uint8Array(dequantize(weight).buffer as ArrayBuffer);
      tensors.set(`${prefix}.weight`, { dtype: 'F32', shape: [weight.outFeatures, weight.inFeatures], bytes });
    },
    quantize,
  );
}

/** Asymmetric, 4 bits, by minimum and maximum of each group; a stored zero point is at least 1. */
export function roundToNearest(values: Float32Array, outFeatures: number, inFeatures: number): GptqWeight {
  const groups = inFeatures / GROUP_SIZE;
  const quantized = new Uint8Array(inFeatures * outFeatures);
  const zeros = new Uint8Array(groups * outFeatures);
  const scales = new Uint16Array(groups * outFeatures);
  for (let n = 0; n < outFeatures; n++)
    for (let g = 0; g < groups; g++) {
      const first = n * inFeatures + g * GROUP_SIZE;
      const group = values.subarray(first, first + GROUP_SIZE);
      const low = Math.min(0, ...group);
      const at = g * outFeatures + n;
      scales[at] = f32ToF16((Math.max(0, ...group) - low) / 14);
      const scale = f16ToF32(scales[at]!);
      const zero = Math.min(15, Math.max(1, Math.round(-low / scale)));
      zeros[at] = zero;
      group.forEach((value, i) => {
        const rounded = Math.min(15, Math.max(0, Math.round(value / scale) + zero));
        quantized[(g * GROUP_SIZE + i) * outFeatures + n] = rounded;
      });
    }
  const rest = { outFeatures, inFeatures, bits: 4, groupSize: GROUP_SIZE, zeroOffset: 1, scales } as const;
  return packGptq({ quantized, zeros }, { ...rest, gIdx: null, bias: null });
}

/** The same model with embedding and head as `quantize` makes them, plain again. */
export async function checkpointWithTables(
  { config, checkpoint }: Fixture,
  quantize: (table: TableRows) => Promise<GptqWeight>,
): Promise<CheckpointFiles> {
  const tensors: Tensors = new Map();
  for (const [name, { dtype, shape }] of checkpoint.tensors) {
    const bytes = await checkpoint.read(name);
    const isTable = [config.tensors.embedding, config.tensors.head].some((table) => name === `${table}.weight`);
    if (!isTable) {
      tensors.set(name, { dtype, shape, bytes });
      continue;
    }
    const [outFeatures, inFeatures] = shape as [number, number];
    const rowBytes = bytes.length / outFeatures;
    const weight = await quantize({
      name,
      file: 'in memory',
      outFeatures,
      inFeatures,
      dtype: dtype.toLowerCase() as TableRows['dtype'],
      read: async (first, count) => bytes.slice(first * rowBytes, (first + count) * rowBytes),
    });
    tensors.set(name, { dtype: 'F32', shape, bytes: new Uint8Array(dequantize(weight).buffer as ArrayBuffer) });
  }
  return checkpointOf(tensors);
}

function checkpointOf(tensors: Tensors): CheckpointFiles {
  const entries = [...tensors].map(([name, { dtype, shape, bytes }]) => {
    return [name, { name, dtype, shape, begin: 0, end: bytes.length }] as const;
  });
  return {
    name: 'in memory',
    tensors: new Map(entries),
    metadata: {},
    has: (name) => tensors.has(name),
    read: async (name) => tensors.get(name)!.bytes.slice(),
    readRange: async (name, offset, length) => tensors.get(name)!.bytes.slice(offset, offset + length),
  };
}
