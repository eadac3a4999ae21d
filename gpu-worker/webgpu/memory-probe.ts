/** MemoryProbe: how much the device would still give, found by asking for it, since WebGPU does not tell. */
import type { Gpu } from './gpu.ts';

const GIB = 2 ** 30;
/** No card of today has more; an adapter that shares the host's memory might otherwise promise without end. */
const MOST_BYTES = 512 * GIB;
const USAGE = 0x80; // STORAGE

/** Takes buffers of stepBytes until the device refuses one or mostBytes are reached, gives all back, and says how many bytes it had. */
export async function freeBytes(gpu: Gpu, stepBytes = GIB, mostBytes = MOST_BYTES): Promise<number> {
  const { device, queue, limits } = gpu.opened;
  const size = Math.floor(Math.min(stepBytes, limits.maxBufferSize) / 4) * 4;
  const taken: GPUBuffer[] = [];
  while ((taken.length + 1) * size <= mostBytes) {
    device.pushErrorScope('out-of-memory');
    const buffer = device.createBuffer({ label: 'memory probe', size, usage: USAGE });
    if ((await device.popErrorScope()) !== null) break;
    taken.push(buffer);
  }
  for (const buffer of taken) buffer.destroy();
  // Dawn frees a destroyed buffer's memory once the queue has passed it.
  queue.submit([device.createCommandEncoder().finish()]);
  await gpu.idle();
  return taken.length * size;
}
