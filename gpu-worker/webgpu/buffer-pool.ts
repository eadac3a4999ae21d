/** BufferPool: buffers by size class that are used again, since a step needs the same ones as the step before. */

/** GPUBufferUsage's numbers: the global exists only once Dawn is loaded. */
export const STORAGE_USAGE = 0x80 | 0x04 | 0x08; // STORAGE | COPY_SRC | COPY_DST
const STAGING_USAGE = 0x01 | 0x08; // MAP_READ | COPY_DST

/** `upload` buffers are kept apart, so that what the host writes is never in use by work that was collected but not submitted. */
export type BufferSort = 'storage' | 'upload' | 'staging';

export class BufferPool {
  readonly #device: GPUDevice;
  readonly #free = new Map<string, GPUBuffer[]>();
  readonly #sortOf = new WeakMap<GPUBuffer, BufferSort>();
  readonly #ids = new WeakMap<GPUBuffer, number>();
  #nextId = 0;
  #bytes = 0;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Bytes of all buffers it ever made. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A buffer of at least `bytes`, with whatever was in it. */
  take(bytes: number, sort: BufferSort = 'storage'): GPUBuffer {
    const size = sizeClass(bytes);
    const free = this.#free.get(`${sort}${size}`)?.pop();
    if (free !== undefined) return free;
    const buffer = this.#device.createBuffer({
      label: `${sort} ${size}`,
      size,
      usage: sort === 'staging' ? STAGING_USAGE : STORAGE_USAGE,
    });
    this.#bytes += size;
    this.#sortOf.set(buffer, sort);
    return buffer;
  }

  /** Takes a buffer back. Work already submitted or collected may still use it: the queue keeps the order. */
  give(buffer: GPUBuffer): void {
    const key = `${this.#sortOf.get(buffer)}${buffer.size}`;
    const free = this.#free.get(key);
    if (free === undefined) this.#free.set(key, [buffer]);
    else free.push(buffer);
  }

  /** A number that stands for the buffer as long as it lives. */
  idOf(buffer: GPUBuffer): number {
    let id = this.#ids.get(buffer);
    if (id === undefined) {
      id = this.#nextId++;
      this.#ids.set(buffer, id);
    }
    return id;
  }
}

/** Powers of two and the three quarter steps between: few classes, at most a quarter wasted. */
function sizeClass(bytes: number): number {
  if (bytes <= 256) return 256;
  const step = 2 ** Math.floor(Math.log2(bytes - 1)) / 4;
  return Math.ceil(bytes / step) * step;
}
