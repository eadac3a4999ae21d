/** Profile: time on the device by kernel, from timestamps around each dispatch. */

import type { KernelTime } from '../../core/model/backend.ts';

/** A query set holds this many timestamps at most. */
const MAX_QUERIES = 4096;

export class Profile {
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #staging: GPUBuffer;
  readonly #times = new Map<string, KernelTime>();
  /** Kernel of each pair of timestamps not yet collected. */
  readonly #pending: string[] = [];
  #resolvedCount = 0;

  constructor(device: GPUDevice) {
    this.#queries = device.createQuerySet({ type: 'timestamp', count: MAX_QUERIES });
    const size = 8 * MAX_QUERIES;
    this.#resolved = device.createBuffer({ size, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
    this.#staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  }

  /** Dispatches beyond the query set's size until the next `collect` go untimed. */
  passOf(name: string): GPUComputePassDescriptor {
    const at = 2 * this.#pending.length;
    if (at + 2 > MAX_QUERIES) return {};
    this.#pending.push(name);
    return {
      timestampWrites: { querySet: this.#queries, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 },
    };
  }

  resolve(encoder: GPUCommandEncoder): void {
    const count = 2 * this.#pending.length;
    if (count === this.#resolvedCount) return;
    encoder.resolveQuerySet(this.#queries, 0, count, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#staging, 0, 8 * count);
    this.#resolvedCount = count;
  }

  async collect(): Promise<void> {
    if (this.#resolvedCount === 0) return;
    await this.#staging.mapAsync(GPUMapMode.READ, 0, 8 * this.#resolvedCount);
    const stamps = new BigUint64Array(this.#staging.getMappedRange(0, 8 * this.#resolvedCount));
    this.#pending.forEach((name, at) => {
      const ns = Number(stamps[2 * at + 1]! - stamps[2 * at]!);
      const { calls, ms } = this.#times.get(name) ?? { calls: 0, ms: 0 };
      this.#times.set(name, { kernel: name, calls: calls + 1, ms: ms + ns / 1e6 });
    });
    this.#staging.unmap();
    this.#pending.length = 0;
    this.#resolvedCount = 0;
  }

  /** Longest in all first. */
  times(): KernelTime[] {
    return [...this.#times.values()].sort((a, b) => b.ms - a.ms);
  }

  destroy(): void {
    this.#queries.destroy();
    this.#resolved.destroy();
    this.#staging.destroy();
  }
}
