/** TableRows of values in memory, for what reads a matrix some rows at a time. */
import { f32ToF16Array } from '../../../core/formats/half.ts';
import type { TableRows } from '../../../core/formats/requantize.ts';

/** A table in memory that remembers how its rows were read. */
export function tableOf(
  values: Float32Array,
  outFeatures: number,
  dtype: 'f32' | 'f16' = 'f32',
): { table: TableRows; reads: [firstRow: number, count: number][] } {
  const inFeatures = values.length / outFeatures;
  const array = dtype === 'f32' ? values : f32ToF16Array(values);
  const bytes = new Uint8Array(array.buffer);
  const rowBytes = bytes.length / outFeatures;
  const reads: [number, number][] = [];
  const table: TableRows = {
    name: 'embedding.weight',
    file: 'in memory',
    outFeatures,
    inFeatures,
    dtype,
    async read(first, count) {
      reads.push([first, count]);
      return bytes.slice(first * rowBytes, (first + count) * rowBytes);
    },
  };
  return { table, reads };
}
