/** Gpu: work on an opened device: dispatches collected into one command buffer, buffers that go back to a pool, waits that raise what went wrong. */
import { type Failure, NibbleError } from '../../core/errors.ts';
import type { KernelTime } from '../../core/model/backend.ts';
import { BufferPool, STORAGE_USAGE } from './buffer-pool.ts';
import type { GpuFeatures, OpenedDevice } from './device.ts';
import { type Kernel, Kernels } from './kernels.ts';
import { Profile } from './profile.ts';

/** Values of a kernel's Params by name: exactly its fields. */
export type Params = Readonly<Record<string, number>>;

/** Uniform offsets are multiples of this on every adapter (WebGPU's default limit); a kernel's Params must fit. */
const PARAMS_STRIDE = 256;
/** Dispatches between two submits at most: a large model's step has under a thousand. */
const MAX_DISPATCHES = 4096;
const MAX_GROUPS = 65535;

type Command =
  | {
      kind: 'dispatch';
      kernel: Kernel;
      group: GPUBindGroup;
      groups: readonly [number, number, number];
      paramsAt: number;
    }
  | { kind: 'copy'; from: GPUBuffer; fromOffset: number; to: GPUBuffer; toOffset: number; bytes: number };

export class Gpu {
  readonly opened: OpenedDevice;
  readonly kernels: Kernels;
  readonly pool: BufferPool;
  #profile: Profile | null = null;
  readonly #bindGroups = new Map<string, GPUBindGroup>();
  readonly #params: GPUBuffer;
  readonly #paramWords = new DataView(new ArrayBuffer(PARAMS_STRIDE * MAX_DISPATCHES));
  readonly #pending: Command[] = [];
  #dispatches = 0;
  #failure: Failure | null = null;
  #closed = false;
  #lost: (error: NibbleError) => void = () => {};
  /** Rejects when the device is lost. */
  readonly #loss: Promise<never>;

  constructor(opened: OpenedDevice) {
    this.opened = opened;
    this.kernels = new Kernels(opened);
    this.#params = opened.device.createBuffer({
      label: 'params',
      size: PARAMS_STRIDE * MAX_DISPATCHES,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    this.pool = new BufferPool(opened.device);
    this.#loss = new Promise<never>((_, reject) => {
      this.#lost = reject;
    });
    this.#loss.catch(() => {});
    void opened.lost.then((reason) => {
      if (!this.#closed) this.#fail({ code: 'device_lost', reason });
    });
    opened.device.onuncapturederror = ({ error }) => {
      this.#failure ??=
        error instanceof GPUOutOfMemoryError
          ? { code: 'out_of_memory', what: error.message, bytes: this.pool.bytes }
          : { code: 'internal', reason: `webgpu: ${error.message}` };
    };
  }

  /** From now on every dispatch runs alone and is timed; false where the adapter has no timestamps. */
  startProfile(): boolean {
    this.flush();
    if (!this.features.timestamps) return false;
    this.#profile ??= new Profile(this.opened.device);
    return true;
  }

  /** Time by kernel since `startProfile`, longest first. */
  async stopProfile(): Promise<KernelTime[]> {
    await this.idle();
    await this.#profile?.collect();
    const times = this.#profile?.times() ?? [];
    this.#profile?.destroy();
    this.#profile = null;
    return times;
  }

  get features(): GpuFeatures {
    return this.opened.features;
  }

  /** Adds one dispatch to the step. Buffers in the order of the kernel's bindings from 1; groups of workgroups, each ≤ 65,535. */
  dispatch(kernel: Kernel, params: Params, buffers: readonly GPUBuffer[], x: number, y = 1, z = 1): void {
    if (this.#failure !== null) throw new NibbleError(this.#failure);
    if (x > MAX_GROUPS || y > MAX_GROUPS || z > MAX_GROUPS)
      throw new NibbleError({ code: 'internal', reason: `kernel ${kernel.name}: ${x}×${y}×${z} workgroups` });
    if (x === 0 || y === 0 || z === 0) return;
    if (this.#dispatches === MAX_DISPATCHES) this.flush();
    const paramsAt = this.#dispatches++ * PARAMS_STRIDE;
    this.#writeParams(kernel, params, paramsAt);
    const group = this.#bindGroup(kernel, buffers);
    this.#pending.push({ kind: 'dispatch', kernel, group, groups: [x, y, z], paramsAt });
  }

  /** Copies between buffers, after the dispatches before it. Sizes and offsets are multiples of 4. */
  copy(from: GPUBuffer, fromOffset: number, to: GPUBuffer, toOffset: number, bytes: number): void {
    this.#pending.push({ kind: 'copy', from, fromOffset, to, toOffset, bytes });
  }

  /**
   * Writes into a buffer of one's own, which no collected dispatch may use yet. Never pass a view of shared memory: Dawn under Node
   * crashes on it. Lengths and offsets are multiples of 4 bytes.
   */
  write(buffer: GPUBuffer, offset: number, values: ArrayBufferView<ArrayBuffer>): void {
    this.opened.queue.writeBuffer(buffer, offset, values);
  }

  /** The values in a buffer of the sort `upload`; the caller gives it back to the pool after a flush. */
  upload(values: Int32Array | Uint32Array | Float32Array): GPUBuffer {
    const buffer = this.pool.take(values.byteLength, 'upload');
    const own = values.buffer instanceof ArrayBuffer ? values : values.slice();
    this.write(buffer, 0, own as ArrayBufferView<ArrayBuffer>);
    return buffer;
  }

  /** Hands what was collected to the device. */
  flush(): void {
    if (this.#pending.length === 0) return;
    const { device, queue } = this.opened;
    queue.writeBuffer(this.#params, 0, this.#paramWords.buffer, 0, this.#dispatches * PARAMS_STRIDE);
    const encoder = device.createCommandEncoder();
    let pass: GPUComputePassEncoder | null = null;
    for (const command of this.#pending) {
      if (command.kind === 'copy') {
        pass?.end();
        pass = null;
        encoder.copyBufferToBuffer(command.from, command.fromOffset, command.to, command.toOffset, command.bytes);
        continue;
      }
      // Timestamps are taken around passes, so a profiled dispatch has one of its own.
      if (this.#profile !== null) pass?.end();
      if (this.#profile !== null || pass === null)
        pass = encoder.beginComputePass(this.#profile?.passOf(command.kernel.name) ?? {});
      pass.setPipeline(command.kernel.pipeline);
      pass.setBindGroup(0, command.group, [command.paramsAt]);
      pass.dispatchWorkgroups(...command.groups);
    }
    pass?.end();
    this.#profile?.resolve(encoder);
    queue.submit([encoder.finish()]);
    this.#pending.length = 0;
    this.#dispatches = 0;
  }

  /** Copies the first `bytes` (a multiple of 4) of a buffer out, after all work before it. Throws what went wrong until then. */
  async read(buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    this.flush();
    const { device, queue } = this.opened;
    const staging = this.pool.take(bytes, 'staging');
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, bytes);
    queue.submit([encoder.finish()]);
    await this.#unlessLost(staging.mapAsync(GPUMapMode.READ, 0, bytes));
    this.#raise();
    const copied = staging.getMappedRange(0, bytes).slice(0);
    staging.unmap();
    this.pool.give(staging);
    await this.#profile?.collect();
    return copied;
  }

  /** Waits for all work. Throws what went wrong until then. */
  async idle(): Promise<void> {
    this.flush();
    await this.#unlessLost(this.opened.queue.onSubmittedWorkDone());
    this.#raise();
  }

  /** A buffer for good (weights, pages), zeroed. Throws `out_of_memory` when the device refuses. */
  async permanent(bytes: number, what: string): Promise<GPUBuffer> {
    const { buffer, refused } = this.#create(bytes, what);
    if (await this.#unlessLost(refused)) throw new NibbleError({ code: 'out_of_memory', what, bytes });
    return buffer;
  }

  /** As `permanent`, but what the device refuses shows at the next wait. */
  permanentUnwaited(bytes: number, what: string): GPUBuffer {
    const { buffer, refused } = this.#create(bytes, what);
    const told = (isRefused: boolean) => {
      if (isRefused) this.#failure ??= { code: 'out_of_memory', what, bytes };
    };
    // A device that goes away meanwhile is told by its loss.
    refused.then(told, () => {});
    return buffer;
  }

  #create(bytes: number, label: string): { buffer: GPUBuffer; refused: Promise<boolean> } {
    const { device } = this.opened;
    device.pushErrorScope('validation');
    device.pushErrorScope('out-of-memory');
    const size = Math.max(16, Math.ceil(bytes / 16) * 16);
    const buffer = device.createBuffer({ label, size, usage: STORAGE_USAGE });
    const scopes = Promise.all([device.popErrorScope(), device.popErrorScope()]);
    return { buffer, refused: scopes.then((errors) => errors.some((error) => error !== null)) };
  }

  /** Waits for work in flight, then closes the device. Every later call throws. */
  async destroy(): Promise<void> {
    this.#closed = true;
    this.#pending.length = 0;
    this.#dispatches = 0;
    // Dawn crashes when the process or the device ends with work in flight.
    await Promise.race([this.opened.queue.onSubmittedWorkDone(), this.#loss]).catch(() => {});
    this.#fail({ code: 'internal', reason: 'webgpu: the device was closed' });
    this.opened.device.destroy();
  }

  #fail(failure: Failure): void {
    this.#failure = failure;
    this.#lost(new NibbleError(failure));
  }

  #raise(): void {
    if (this.#failure !== null) throw new NibbleError(this.#failure);
  }

  /** A lost device rejects or leaves its promises open: its loss is what the caller hears of. */
  async #unlessLost<Value>(work: Promise<Value>): Promise<Value> {
    this.#raise();
    try {
      return await Promise.race([work, this.#loss]);
    } catch (error) {
      // The loss itself may be told a moment after the call that it broke.
      if (!(error instanceof NibbleError)) await Promise.race([this.#loss, new Promise((r) => setTimeout(r, 50))]);
      throw error;
    }
  }

  #writeParams({ name, params: fields }: Kernel, params: Params, offset: number): void {
    let count = 0;
    for (const _ in params) count++;
    if (count !== fields.length)
      throw new NibbleError({ code: 'internal', reason: `kernel ${name}: ${count} params for ${fields.length}` });
    fields.forEach((field, at) => {
      const value = params[field.name];
      if (value === undefined)
        throw new NibbleError({ code: 'internal', reason: `kernel ${name}: param ${field.name} is missing` });
      const place = offset + 4 * at;
      if (field.type === 'f32') this.#paramWords.setFloat32(place, value, true);
      else if (field.type === 'u32') this.#paramWords.setUint32(place, value, true);
      else this.#paramWords.setInt32(place, value, true);
    });
  }

  /** The same kernel over the same buffers recurs every step, so its bind group is made once. */
  #bindGroup(kernel: Kernel, buffers: readonly GPUBuffer[]): GPUBindGroup {
    const key = `${kernel.id}:${buffers.map((buffer) => this.pool.idOf(buffer)).join()}`;
    const known = this.#bindGroups.get(key);
    if (known !== undefined) return known;
    const group = this.opened.device.createBindGroup({
      layout: kernel.layout,
      entries: [
        { binding: 0, resource: { buffer: this.#params, size: PARAMS_STRIDE } },
        ...buffers.map((buffer, at) => ({ binding: at + 1, resource: { buffer } })),
      ],
    });
    this.#bindGroups.set(key, group);
    return group;
  }
}
