/** Plain and int8 weights on the device: their rows as they are, padded to whole chunks of 32 channels where they are not. */
import type { DenseWeight, Int8Weight } from '../../../core/model/backend.ts';
import type { GpuLinear } from './gpu-linear.ts';
import { bytesOf, expectLength, type Loading, type RowRange } from './loading.ts';

export async function loadDense(loading: Loading, weight: DenseWeight): Promise<GpuLinear> {
  const { outFeatures, inFeatures, dtype, bytes } = weight;
  const valueBytes = dtype === 'f32' ? 4 : 2;
  expectLength(loading.label, 'weight', bytes.length / valueBytes, outFeatures * inFeatures);
  const parts = await bringRows(loading, bytes, outFeatures, inFeatures, valueBytes);
  const codeBytes = codesBytes(outFeatures, inFeatures, valueBytes);
  const bias = weight.bias === null ? null : await loading.values(weight.bias);
  return {
    kind: 'dense',
    outFeatures,
    inFeatures,
    bytes: loading.bytes,
    defines: { [`DTYPE_${dtype.toUpperCase()}`]: true },
    chunks: Math.ceil(inFeatures / 32),
    pieces: dtype === 'f32' ? 1 : 2,
    // Bound by bytes, with instructions to spare; and no scale keeps the sums of f16 weights in f16.
    halves: null,
    input: inFeatures % 32 === 0 ? { kind: 'plain' } : { kind: 'channels', channels: null },
    parts: parts.map(({ codes, ...rows }) => ({
      ...rows,
      buffers: [codes],
      rowFactors: null,
      params: { groups: 0, groupChunks: 0 },
    })),
    joins: { key: '', appended: [{ buffer: 0, bytes: codeBytes }] },
    bias,
  };
}

export async function loadInt8(loading: Loading, weight: Int8Weight): Promise<GpuLinear> {
  const { outFeatures, inFeatures, values, rowAbsmax, threshold } = weight;
  expectLength(loading.label, 'weight', values.length, outFeatures * inFeatures);
  expectLength(loading.label, 'SCB', rowAbsmax.length, outFeatures);
  const parts = await bringRows(loading, bytesOf(values), outFeatures, inFeatures, 1);
  const codeBytes = codesBytes(outFeatures, inFeatures, 1);
  const scales: GPUBuffer[] = [];
  for (const { first, rows } of parts) scales.push(await loading.values(rowAbsmax.slice(first, first + rows)));
  const bias = weight.bias === null ? null : await loading.values(weight.bias);
  return {
    kind: 'int8',
    outFeatures,
    inFeatures,
    bytes: loading.bytes,
    defines: { OUTLIERS: threshold > 0 },
    chunks: Math.ceil(inFeatures / 32),
    pieces: 4,
    halves: null,
    input: { kind: 'int8', threshold },
    parts: parts.map(({ codes, ...rows }, i) => ({
      ...rows,
      buffers: [codes, scales[i]!],
      rowFactors: null,
      params: { groups: 0, groupChunks: 0, inFeatures },
    })),
    joins: {
      key: '',
      appended: [
        { buffer: 0, bytes: codeBytes },
        { buffer: 1, bytes: 4 * outFeatures },
      ],
    },
    bias,
  };
}

/** Of rows padded to quads and whole chunks. */
function codesBytes(rows: number, inFeatures: number, valueBytes: number): number {
  return Math.ceil(rows / 4) * 4 * Math.ceil(inFeatures / 32) * 32 * valueBytes;
}

/** bytes [out, in] of values of valueBytes → parts of rows of whole chunks. */
async function bringRows(
  loading: Loading,
  bytes: Uint8Array,
  outFeatures: number,
  inFeatures: number,
  valueBytes: number,
): Promise<(RowRange & { codes: GPUBuffer })[]> {
  const rowBytes = inFeatures * valueBytes;
  const paddedBytes = Math.ceil(inFeatures / 32) * 32 * valueBytes;
  const parts: (RowRange & { codes: GPUBuffer })[] = [];
  for (const { first, rows } of loading.parts(outFeatures, paddedBytes)) {
    const codes = await loading.permanent(codesBytes(rows, inFeatures, valueBytes));
    parts.push({ first, rows, codes });
    if (paddedBytes === rowBytes) {
      await loading.write(codes, 0, bytes.subarray(first * rowBytes, (first + rows) * rowBytes));
      continue;
    }
    for (const slab of loading.slabs(rows, rowBytes)) {
      const begin = (first + slab.first) * rowBytes;
      const raw = loading.raw(0, bytes.subarray(begin, begin + slab.rows * rowBytes));
      const rowWords = paddedBytes / 4;
      const count = slab.rows * rowWords;
      const params = { count, firstRow: slab.first, rowBytes, rowWords };
      await loading.repack('repack_rows', {}, params, [raw, codes], count);
    }
  }
  return parts;
}
