/** SubgroupLayout: whether the threads of a subgroup are neighbours, as every adapter known has it and WGSL does not promise. */
import type { GpuFeatures } from './device.ts';
import type { Gpu } from './gpu.ts';

const THREADS = 128;

/** The adapter's subgroups when the sums over teams may rely on them; null otherwise. */
export async function neighbouringSubgroups(gpu: Gpu): Promise<GpuFeatures['subgroups']> {
  const { subgroups } = gpu.features;
  if (subgroups === null) return null;
  const buffer = gpu.pool.take(8 * THREADS);
  gpu.dispatch(gpu.kernels.get('subgroup_layout', { THREADS }), { threads: THREADS }, [buffer], 1);
  const found = new Uint32Array(await gpu.read(buffer, 8 * THREADS));
  gpu.pool.give(buffer);
  const size = found[0]!;
  const isLinear = Array.from({ length: THREADS }, (_, i) => i).every(
    (i) => found[2 * i] === size && found[2 * i + 1] === i % size,
  );
  const isExpected = size >= subgroups.minSize && size <= subgroups.maxSize && Number.isInteger(Math.log2(size));
  return isLinear && isExpected ? subgroups : null;
}
