/** bitsandbytes' 4-bit weights on the device; layouts in kernels/bnb4_format.wgsl. */
import type { Bnb4Weight } from '../../../core/model/backend.ts';
import type { Params } from '../gpu.ts';
import type { GpuLinear, HalvesForm, Joins, WeightPart } from './gpu-linear.ts';
import { bytesOf, expectLength, type Loading, type RowRange } from './loading.ts';

/** How absmax lies on the device. */
type Scales =
  /** f32 by quads of rows; nested ones are resolved. */
  | { kind: 'quads'; groupChannels: number }
  /** Codes by quads of rows: every block lies in one row. */
  | { kind: 'codes'; groupChannels: number }
  /** f32 by block, looked up for every value: blocks end inside chunks. */
  | { kind: 'straddling' };

/** For tables within −1 to 1: eight products with activations below 2^12 stay below 2^16. */
const HALVES: HalvesForm = { order: 0, largest: 11 };

export async function loadBnb4(loading: Loading, weight: Bnb4Weight): Promise<GpuLinear> {
  const { outFeatures, inFeatures, blockSize, packed, table, absmax } = weight;
  const values = outFeatures * inFeatures;
  expectLength(loading.label, 'weight', packed.length, Math.ceil(values / 2));
  const blocks = (absmax.kind === 'plain' ? absmax.values : absmax.codes).length;
  expectLength(loading.label, 'absmax', blocks, Math.ceil(values / blockSize));

  const chunks = Math.ceil(inFeatures / 32);
  const scales = scalesOf(weight);
  const groups = scales.kind === 'straddling' ? 0 : Math.ceil(inFeatures / scales.groupChannels);
  const tables = await loading.values(Float32Array.from([...table, ...(absmax.kind === 'nested' ? absmax.table : [])]));
  const nested = absmax.kind === 'nested' ? await loading.values(absmax.nested) : null;

  const parts: WeightPart[] = [];
  const scaleBytes = scales.kind === 'straddling' ? (4 * inFeatures) / blockSize + 4 : 4 * groups;
  for (const part of loading.parts(outFeatures, Math.max(16 * chunks, scaleBytes))) {
    const quads = Math.ceil(part.rows / 4);
    const codes = await loading.permanent(4 * quads * chunks * 16);
    for (const slab of loading.slabs(part.rows, inFeatures / 2)) {
      const begin = (part.first + slab.first) * inFeatures;
      const bytes = packed.subarray(begin / 2, Math.ceil((begin + slab.rows * inFeatures) / 2));
      const count = slab.rows * chunks * 4;
      const params = { count, firstRow: slab.first, chunks, inFeatures };
      await loading.repack('repack_bnb4', {}, params, [loading.raw(0, bytes), codes], count);
    }
    const brought = await bringScales(loading, weight, part, scales, groups, { tables, nested });
    parts.push({
      ...part,
      buffers: [codes, tables, ...brought],
      rowFactors: null,
      params: {
        groups,
        groupChunks: scales.kind === 'straddling' ? 0 : scales.groupChannels / 32,
        inFeatures,
        blockSize,
        firstBlock: part.first * groups,
        blockOffset: (part.first * inFeatures) % blockSize,
        nestedBlock: absmax.kind === 'nested' ? absmax.blockSize : 0,
        nestedOffset: absmax.kind === 'nested' ? absmax.offset : 0,
      },
    });
  }
  const bias = weight.bias === null ? null : await loading.values(weight.bias);
  return {
    kind: 'bnb4',
    outFeatures,
    inFeatures,
    bytes: loading.bytes,
    defines: { NESTED: scales.kind === 'codes', STRADDLE: scales.kind === 'straddling' },
    chunks,
    pieces: 8,
    halves: scales.kind !== 'straddling' && table.every((value) => Math.abs(value) <= 1) ? HALVES : null,
    input: chunks * 32 === inFeatures ? { kind: 'plain' } : { kind: 'channels', channels: null },
    parts,
    joins: scales.kind === 'straddling' ? null : joinsOf(weight, chunks, scales, groups),
    bias,
  };
}

function joinsOf(
  { outFeatures, inFeatures, blockSize, table, absmax }: Bnb4Weight,
  chunks: number,
  scales: Scales,
  groups: number,
): Joins {
  const quads = Math.ceil(outFeatures / 4);
  const isCodes = scales.kind === 'codes';
  const tables = [...table, ...(absmax.kind === 'nested' ? absmax.table : [])];
  const outer = absmax.kind === 'nested' ? Math.ceil((outFeatures * inFeatures) / blockSize / absmax.blockSize) : 0;
  return {
    key: tables.join(),
    appended: [
      { buffer: 0, bytes: quads * chunks * 64 },
      { buffer: 2, bytes: quads * groups * (isCodes ? 4 : 16) },
      ...(isCodes ? [{ buffer: 3, bytes: 4 * outer }] : []),
    ],
  };
}

function scalesOf({ inFeatures, blockSize, absmax }: Bnb4Weight): Scales {
  const shared = greatestDivisor(inFeatures, blockSize);
  if (shared % 32 !== 0) return { kind: 'straddling' };
  return { kind: absmax.kind === 'nested' && shared === blockSize ? 'codes' : 'quads', groupChannels: shared };
}

/** The buffers of one part's absmax, in the order of the format's bindings. */
async function bringScales(
  loading: Loading,
  weight: Bnb4Weight,
  part: RowRange,
  scales: Scales,
  groups: number,
  { tables, nested }: { tables: GPUBuffer; nested: GPUBuffer | null },
): Promise<GPUBuffer[]> {
  const { inFeatures, blockSize, absmax } = weight;
  if (scales.kind === 'straddling') {
    const { begin, end } = blocksOf(weight, part);
    return [await loading.values(plainAbsmax(weight, begin, end))];
  }
  const isCodes = scales.kind === 'codes';
  const quads = Math.ceil(part.rows / 4);
  const buffer = await loading.permanent(quads * groups * (isCodes ? 4 : 16));
  for (const slab of loading.slabs(part.rows, 4 * groups)) {
    const rows = { first: part.first + slab.first, rows: slab.rows };
    const { begin, end } = blocksOf(weight, rows);
    const params: Params = {
      rows: slab.rows,
      firstQuad: slab.first / 4,
      groups,
      groupChannels: scales.groupChannels,
      inFeatures,
      blockSize,
      blockOffset: (rows.first * inFeatures) % blockSize,
      firstBlock: begin,
      nestedBlock: absmax.kind === 'nested' ? absmax.blockSize : 0,
      nestedOffset: absmax.kind === 'nested' ? absmax.offset : 0,
    };
    const source =
      absmax.kind === 'plain'
        ? [loading.raw(1, bytesOf(absmax.values.subarray(begin, end)))]
        : [loading.raw(1, absmax.codes.subarray(begin, end)), tables, nested!];
    const defines = { NESTED: absmax.kind === 'nested', CODES: isCodes };
    await loading.repack('repack_absmax', defines, params, [...source, buffer], Math.ceil(slab.rows / 4) * groups);
  }
  return isCodes ? [buffer, nested!] : [buffer];
}

/** Blocks that hold values of the rows. */
function blocksOf({ inFeatures, blockSize }: Bnb4Weight, { first, rows }: RowRange): { begin: number; end: number } {
  return {
    begin: Math.floor((first * inFeatures) / blockSize),
    end: Math.ceil(((first + rows) * inFeatures) / blockSize),
  };
}

function plainAbsmax({ absmax }: Bnb4Weight, begin: number, end: number): Float32Array {
  if (absmax.kind === 'plain') return absmax.values.slice(begin, end);
  const { codes, table, nested, blockSize, offset } = absmax;
  return Float32Array.from(
    { length: end - begin },
    (_, i) => table[codes[begin + i]!]! * nested[Math.floor((begin + i) / blockSize)]! + offset,
  );
}

function greatestDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestDivisor(b, a % b);
}
