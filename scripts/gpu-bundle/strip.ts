/** Strip: an ELF file without its symbol tables and section headers, which the loader does not read. */

const MAGIC = 0x7f454c46;
const HEADER = { programOffset: 32, sectionOffset: 40, programEntryBytes: 54, programCount: 56, sectionCount: 60 };
const PROGRAM = { fileOffset: 8, fileBytes: 32 };

/** Cuts a 64-bit little-endian ELF file after its last segment (System V ABI, "Program Header"). Anything else throws. */
export function stripped(file: Uint8Array): Uint8Array {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (view.getUint32(0) !== MAGIC || file[4] !== 2 || file[5] !== 1)
    throw new Error('strip: this is no 64-bit little-endian ELF file');
  const programs = Number(view.getBigUint64(HEADER.programOffset, true));
  const entryBytes = view.getUint16(HEADER.programEntryBytes, true);
  let end = 0;
  for (let index = 0; index < view.getUint16(HEADER.programCount, true); index++) {
    const entry = programs + index * entryBytes;
    const segmentEnd =
      view.getBigUint64(entry + PROGRAM.fileOffset, true) + view.getBigUint64(entry + PROGRAM.fileBytes, true);
    end = Math.max(end, Number(segmentEnd));
  }
  const kept = file.slice(0, end);
  const header = new DataView(kept.buffer);
  header.setBigUint64(HEADER.sectionOffset, 0n, true);
  // Count and index of the names' section.
  header.setUint32(HEADER.sectionCount, 0, true);
  return kept;
}
