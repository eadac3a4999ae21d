/// <reference types="node" />
/** Memory import: one bit of a kernel build says whether the memory that it imports is shared; code is the same for both. */
import { NibbleError } from '../core/errors.ts';

/** Limits of an imported memory: with a maximum, and shared between threads or not. */
const FLAGS = { unshared: 1, shared: 3 } as const;

/** The same kernels with the memory that they import declared so. Throws `internal` when they import none with a maximum. */
export function withMemory(kind: keyof typeof FLAGS, binary: Uint8Array): Uint8Array<ArrayBuffer> {
  // Names "env" and "memory" with their lengths, then kind 2: a memory.
  const name = Buffer.from('\x03env\x06memory\x02');
  const at = Buffer.from(binary.buffer, binary.byteOffset, binary.length).indexOf(name) + name.length;
  const flags: number | undefined = binary[at];
  if (at < name.length || (flags !== FLAGS.shared && flags !== FLAGS.unshared))
    throw new NibbleError({ code: 'internal', reason: 'the kernels import no memory with a maximum' });
  const changed = new Uint8Array(binary);
  changed[at] = FLAGS[kind];
  return changed;
}
