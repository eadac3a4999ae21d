/** Loading: one weight's way to the device: slabs of the raw tensor into buffers that are used again, repacked by kernels into buffers that stay. */
import { NibbleError } from '../../../core/errors.ts';
import { impossible } from '../activations.ts';
import type { Gpu, Params } from '../gpu.ts';
import type { Defines } from '../kernel-source.ts';
import { foldGroups } from '../row-ops.ts';

/** Most raw bytes of a weight that are on their way at a time. */
const SLAB_BYTES = 4 << 20;
/** Uploads after which those before them are waited for: Dawn keeps a copy of each until it is done, so of twice as many at most. */
const UNSETTLED_BYTES = 8 << 20;
/** A binding is never larger, so that indices of values stay below 2^32. */
const MOST_BINDING_BYTES = 2 ** 30;
/** Parts and slabs begin at multiples of this many outputs: whole quads, and whole words of packed zeros and odd rows of nibbles. */
const ROW_STEP = 32;
const THREADS = 64;

export interface RowRange {
  first: number;
  rows: number;
}

export class Loading {
  readonly gpu: Gpu;
  readonly label: string;
  readonly #bindingBytes: number;
  /** By slot; each grows as it must. */
  readonly #raw: (GPUBuffer | undefined)[] = [];
  #bytes = 0;
  #unsettled = 0;
  /** Ends when the device has all uploads but the unsettled ones. */
  #settled: Promise<void> = Promise.resolve();

  constructor(gpu: Gpu, label: string, bindingBytes: number) {
    this.gpu = gpu;
    this.label = label;
    const { maxStorageBufferBindingSize, maxBufferSize } = gpu.opened.limits;
    this.#bindingBytes = Math.min(bindingBytes, maxStorageBufferBindingSize, maxBufferSize, MOST_BINDING_BYTES);
  }

  /** Of the buffers that stay. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Ranges of outputs whose buffers each fit a binding; `rowBytes` of the buffer that takes most. */
  parts(rows: number, rowBytes: number): RowRange[] {
    const most = Math.floor(this.#bindingBytes / rowBytes / ROW_STEP) * ROW_STEP;
    if (most >= rows || most === 0) {
      if (rows * rowBytes <= this.#bindingBytes) return [{ first: 0, rows }];
      const reason = `${ROW_STEP} of its rows take ${ROW_STEP * rowBytes} bytes, a binding of this GPU at most ${this.#bindingBytes}`;
      throw new NibbleError({ code: 'model_unsupported', file: this.label, option: 'backend webgpu', reason });
    }
    return ranges(rows, most);
  }

  /** Ranges of a part's rows, counted within it, whose raw bytes fit a slab. */
  slabs(rows: number, rawRowBytes: number): RowRange[] {
    return ranges(rows, Math.max(1, Math.floor(SLAB_BYTES / rawRowBytes / ROW_STEP)) * ROW_STEP);
  }

  async permanent(bytes: number): Promise<GPUBuffer> {
    const buffer = await this.gpu.permanent(bytes, this.label);
    this.#bytes += buffer.size;
    return buffer;
  }

  /** A buffer that stays, of these values. */
  async values(values: Float32Array | Uint32Array): Promise<GPUBuffer> {
    const buffer = await this.permanent(values.byteLength);
    await this.write(buffer, 0, bytesOf(values));
    return buffer;
  }

  /** Writes to a buffer that stays, at a multiple of 4, in slabs. The last bytes may be fewer than a word. */
  async write(buffer: GPUBuffer, offset: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += SLAB_BYTES) {
      const slab = ownWords(bytes.subarray(at, at + SLAB_BYTES));
      this.gpu.write(buffer, offset + at, slab);
      await this.#settle(slab.length);
    }
  }

  /** Raw bytes for the next repack; each slot holds one buffer at a time. */
  raw(slot: number, bytes: Uint8Array): GPUBuffer {
    const words = ownWords(bytes);
    const buffer = this.#rawBuffer(slot, words.length);
    this.gpu.write(buffer, 0, words);
    this.#unsettled += words.length;
    return buffer;
  }

  /** One thread for each of `count`; the raw slots may be filled anew afterwards. */
  async repack(
    file: string,
    defines: Defines,
    params: Params,
    buffers: readonly GPUBuffer[],
    count: number,
  ): Promise<void> {
    const kernel = this.gpu.kernels.get(file, { THREADS, ...defines });
    this.gpu.dispatch(kernel, params, buffers, ...foldGroups(Math.ceil(count / THREADS)));
    this.gpu.flush();
    await this.#settle(0);
  }

  /** Waits for the device and frees what was on its way. */
  async finish(): Promise<void> {
    await this.gpu.idle();
    for (const buffer of this.#raw) buffer?.destroy();
    this.#raw.length = 0;
  }

  #rawBuffer(slot: number, bytes: number): GPUBuffer {
    const known = this.#raw[slot];
    if (known !== undefined && known.size >= bytes) return known;
    // Work that was submitted keeps its use of a destroyed buffer.
    known?.destroy();
    const buffer = this.gpu.opened.device.createBuffer({
      label: `raw ${slot} of ${this.label}`,
      size: Math.max(256, bytes),
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST,
    });
    this.#raw[slot] = buffer;
    return buffer;
  }

  async #settle(bytes: number): Promise<void> {
    this.#unsettled += bytes;
    if (this.#unsettled < UNSETTLED_BYTES) return;
    this.#unsettled = 0;
    const earlier = this.#settled;
    this.#settled = this.gpu.idle();
    // Whoever waits next is told.
    this.#settled.catch(() => {});
    await earlier;
  }
}

export function bytesOf(values: ArrayBufferView): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

export function expectLength(label: string, what: string, length: number, expected: number): void {
  if (length !== expected) throw impossible(`${label}: ${what} has ${length} values, expected ${expected}`);
}

/** Whole words outside shared memory, which Dawn under Node cannot read. */
function ownWords(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  if (bytes.buffer instanceof ArrayBuffer && bytes.length % 4 === 0) return bytes as Uint8Array<ArrayBuffer>;
  const own = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  own.set(bytes);
  return own;
}

function ranges(rows: number, most: number): RowRange[] {
  return Array.from({ length: Math.ceil(rows / most) }, (_, i) => ({
    first: i * most,
    rows: Math.min(most, rows - i * most),
  }));
}
