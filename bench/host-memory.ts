/** HostMemory: the most that a process holds beside what its device's buffers take, by a thread that looks while the first is busy. Linux only. */
import { openSync, readSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { WebGpuBackend } from '../gpu-worker/webgpu/backend.ts';

/** Of the memory that is shared with the thread: i32 words. `device` and `peak` are KiB; `turn` is odd while a buffer is being counted. */
export const WORDS = { device: 0, peak: 1, turn: 2, stopped: 3, count: 4 } as const;

const PAGE_KIB = 4;
const STATM = openSync('/proc/self/statm', 'r');
const digits = new Uint8Array(128);
const [SPACE, ZERO] = [32, 48];

export interface HostMemory {
  /** Ends the watch. Bytes above what the process had when it began, without the device's buffers. */
  peakBytes(): Promise<number>;
}

/**
 * A software device keeps its buffers in the process's memory, where only their sizes tell them apart: each is made resident before it
 * is counted, so that no page counts as the device's that is not there yet. Buffers that are used again for every upload count as the
 * host's. A real device's memory is not the process's, and nothing is taken off.
 */
export async function watchHostMemory(backend: WebGpuBackend): Promise<HostMemory> {
  const words = new Int32Array(new SharedArrayBuffer(4 * WORDS.count));
  if (backend.gpu.opened.isSoftware) countBuffers(backend, words);
  const thread = new Worker(new URL('./host-memory-thread.ts', import.meta.url), { workerData: words });
  // The thread's own memory comes before.
  await new Promise((ready, failed) => thread.once('message', ready).once('error', failed));
  const beginKib = residentKib();
  Atomics.store(words, WORDS.peak, 0);
  return {
    async peakBytes() {
      Atomics.store(words, WORDS.stopped, 1);
      await new Promise((ended) => thread.once('exit', ended));
      return (Atomics.load(words, WORDS.peak) - beginKib) * 1024;
    },
  };
}

/** Of this process. Leaves nothing for the collector, whose heap would be measured too. */
export function residentKib(): number {
  const length = readSync(STATM, digits, 0, digits.length, 0);
  let pages = 0;
  // The second number.
  for (let at = digits.indexOf(SPACE) + 1; at < length && digits[at] !== SPACE; at++)
    pages = 10 * pages + digits[at]! - ZERO;
  return pages * PAGE_KIB;
}

function countBuffers(backend: WebGpuBackend, words: Int32Array): void {
  const { gpu } = backend;
  const [make, join] = [gpu.permanent.bind(gpu), backend.join.bind(backend)];
  /** After a submit that uses the buffer, or none; nothing is measured until the device has passed it. */
  const settle = async (buffer: GPUBuffer | null) => {
    const { device, queue } = gpu.opened;
    const encoder = device.createCommandEncoder();
    if (buffer !== null) encoder.clearBuffer(buffer);
    queue.submit([encoder.finish()]);
    await gpu.idle();
  };
  let leavingKib = 0;
  gpu.permanent = async (bytes, what) => {
    const buffer = await make(bytes, what);
    const kib = Math.ceil(buffer.size / 1024);
    Atomics.add(words, WORDS.turn, 1);
    await settle(buffer);
    Atomics.add(words, WORDS.device, kib);
    Atomics.add(words, WORDS.turn, 1);
    const destroy = buffer.destroy.bind(buffer);
    buffer.destroy = () => {
      leavingKib += kib;
      return destroy();
    };
    return buffer;
  };
  // What it joined is destroyed, and Dawn frees that when a later submit has passed.
  backend.join = async (weights) => {
    await join(weights);
    Atomics.add(words, WORDS.turn, 1);
    for (let round = 0; round < 2; round++) await settle(null);
    Atomics.sub(words, WORDS.device, leavingKib);
    leavingKib = 0;
    Atomics.add(words, WORDS.turn, 1);
  };
}
