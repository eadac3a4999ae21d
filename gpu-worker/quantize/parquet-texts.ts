/** ParquetTexts: one column of strings from a Parquet file, a row group at a time. */
import type { AsyncBuffer, FileMetaData } from 'hyparquet';
import { NibbleError } from '../../core/errors.ts';

/** A footer of a few thousand row groups; its parser builds objects of many times this size. */
const MAX_FOOTER_BYTES = 16_000_000;

/** Strings of `column`, in order. Throws `file_invalid` when the file is no Parquet, lacks the column, or unpacks to more than `maxBytes`. */
export async function parquetTexts(file: string, column: string, maxBytes: number): Promise<string[]> {
  const invalid = (rule: string) => new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
  const texts: string[] = [];
  // Loaded where it is used: few runs read Parquet.
  const { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } = await import('hyparquet');
  try {
    const buffer = await asyncBufferFromFile(file);
    const footerBytes = await footerBytesOf(buffer);
    if (footerBytes > MAX_FOOTER_BYTES)
      throw invalid(`has a footer of ${footerBytes} bytes, over the ${MAX_FOOTER_BYTES} that are read`);
    const metadata = await parquetMetadataAsync(buffer);
    const unpacked = unpackedBytes(metadata, column);
    if (unpacked === null) throw invalid(`has no column "${column}"`);
    if (unpacked > maxBytes) throw invalid(`unpacks to ${unpacked} bytes, over the ${maxBytes} of calibration data`);
    let rowStart = 0;
    for (const { num_rows } of metadata.row_groups) {
      const rowEnd = rowStart + Number(num_rows);
      const rows = await parquetReadObjects({ file: buffer, metadata, columns: [column], rowStart, rowEnd });
      for (const row of rows) {
        const text = row[column];
        if (typeof text !== 'string') throw invalid(`has a row ${texts.length + 1} whose "${column}" is no text`);
        texts.push(text);
      }
      rowStart = rowEnd;
    }
  } catch (error) {
    if (error instanceof NibbleError) throw error;
    throw invalid(`cannot be read as Parquet: ${(error as Error).message}`);
  }
  if (texts.length === 0) throw invalid('holds no rows; quantization needs text');
  return texts;
}

/** The four bytes before the closing "PAR1". */
async function footerBytesOf(buffer: AsyncBuffer): Promise<number> {
  if (buffer.byteLength < 12) throw new Error(`it has ${buffer.byteLength} bytes`);
  const end = await buffer.slice(buffer.byteLength - 8, buffer.byteLength);
  return new DataView(end).getUint32(0, true);
}

/** Of all row groups' chunks of the column, as the footer says; null when a row group has none. */
function unpackedBytes({ row_groups }: FileMetaData, column: string): number | null {
  let bytes = 0;
  for (const { columns } of row_groups) {
    const chunk = columns.find(({ meta_data }) => meta_data?.path_in_schema.join('.') === column)?.meta_data;
    if (chunk === undefined) return null;
    bytes += Number(chunk.total_uncompressed_size);
  }
  return bytes;
}
