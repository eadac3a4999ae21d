/** SharedMemory: blocks of the solver's linear memory, which all of its threads see. Only the main thread takes and releases. */
import { NibbleError } from '../../core/errors.ts';

const PAGE_BYTES = 65536;
/** One page short of 4 GiB, as the module declares it. */
const MAX_PAGES = 65535;
/** A cache line. */
const ALIGNMENT = 64;

export class SharedMemory {
  readonly memory = new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES, shared: true });
  /** The first page belongs to the compiler. */
  #top = PAGE_BYTES;

  /** A block of whatever was there. `what` names it when memory runs out. */
  take(bytes: number, what: string): number {
    const start = this.#top;
    const end = Math.ceil((start + bytes) / ALIGNMENT) * ALIGNMENT;
    const missingPages = Math.ceil(end / PAGE_BYTES) - this.memory.buffer.byteLength / PAGE_BYTES;
    const refused = () =>
      new NibbleError({
        code: 'model_unsupported',
        file: 'wasm',
        option: 'memory',
        reason: `${what} needs ${bytes} bytes beside ${start}; the solver has ${MAX_PAGES * PAGE_BYTES}`,
      });
    if (end > MAX_PAGES * PAGE_BYTES) throw refused();
    if (missingPages > 0) {
      try {
        this.memory.grow(missingPages);
      } catch {
        throw refused();
      }
    }
    this.#top = end;
    return start;
  }

  /** A block of zeros. */
  zeros(bytes: number, what: string): number {
    const address = this.take(bytes, what);
    this.u8(address, bytes).fill(0);
    return address;
  }

  get mark(): number {
    return this.#top;
  }

  /** Frees everything taken since `mark`. */
  release(mark: number): void {
    this.#top = mark;
  }

  u8(address: number, length: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, address, length);
  }
  i32(address: number, length: number): Int32Array {
    return new Int32Array(this.memory.buffer, address, length);
  }
  f32(address: number, length: number): Float32Array {
    return new Float32Array(this.memory.buffer, address, length);
  }
}
