/** Limits: what this device does at best in WGSL, measured: the copy of memory and plain multiply-adds. */
import type { MeasuredRate } from '../../core/model/backend.ts';
import type { MatrixShape } from './device.ts';
import type { Gpu } from './gpu.ts';
import { foldGroups } from './row-ops.ts';

const THREADS = 256;
/** Beyond any last cache on a GPU (an H200's has 50 MB); a software adapter shares the CPU's and has little time. */
const COPY_BYTES = { real: 512 * 2 ** 20, software: 32 * 2 ** 20 };
const COPY_GROUPS = 8192;
const FMA_GROUPS = { real: 8192, software: 64 };
const FMA_ROUNDS = { real: 4096, software: 256 };
/** A round's: eight chains of four lanes, a multiply and an add each. */
const OPERATIONS_PER_ROUND = 64;
/** A round's products by a subgroup. */
const PRODUCTS_PER_ROUND = 8;
const MATRIX_GROUPS = { real: 2048, software: 8 };
const MATRIX_ROUNDS = { real: 4096, software: 64 };
const PASSES = 6;

/** A copy counts each byte twice, read and written. Gives its memory back. */
export async function copyLimit(gpu: Gpu): Promise<MeasuredRate> {
  const wanted = gpu.opened.isSoftware ? COPY_BYTES.software : COPY_BYTES.real;
  const bytes = Math.min(wanted, gpu.opened.limits.maxStorageBufferBindingSize);
  const from = await gpu.permanent(bytes, 'the copy that measures bandwidth');
  const to = await gpu.permanent(bytes, 'the copy that measures bandwidth');
  const kernel = gpu.kernels.get('limit_copy', { THREADS });
  const count = Math.floor(bytes / 16);
  const groups = Math.min(COPY_GROUPS, Math.ceil(count / THREADS));
  const seconds = await bestOf(gpu, () =>
    gpu.dispatch(kernel, { count, stride: groups * THREADS }, [from, to], ...foldGroups(groups)),
  );
  from.destroy();
  to.destroy();
  return { what: 'copy, bytes read and written', perSecond: (2 * 16 * count) / seconds };
}

/** In f16 where the backend computes in it. */
export async function multiplyLimit(gpu: Gpu): Promise<MeasuredRate> {
  const sort = gpu.opened.isSoftware ? 'software' : 'real';
  const [groups, rounds] = [FMA_GROUPS[sort], FMA_ROUNDS[sort]];
  const count = groups * THREADS;
  const y = await gpu.permanent(4 * count, 'the sums that measure multiply-adds');
  const kernel = gpu.kernels.get('limit_fma', { THREADS, HALF: gpu.features.f16 });
  const seconds = await bestOf(gpu, () =>
    gpu.dispatch(kernel, { count, rounds, factor: 0.5 }, [y], ...foldGroups(groups)),
  );
  y.destroy();
  return {
    what: `${gpu.features.f16 ? 'f16' : 'f32'} multiply-adds outside matrix units`,
    perSecond: (OPERATIONS_PER_ROUND * rounds * count) / seconds,
  };
}

/** Of matrix units, which many tokens' products use where they are. */
export async function matrixLimit(gpu: Gpu, { M, N, K, subgroupSize }: MatrixShape): Promise<MeasuredRate> {
  const sort = gpu.opened.isSoftware ? 'software' : 'real';
  const [groups, rounds] = [MATRIX_GROUPS[sort], MATRIX_ROUNDS[sort]];
  const threads = 4 * subgroupSize;
  const count = groups * threads;
  const y = await gpu.permanent(4 * count, 'the sums that measure subgroup matrices');
  const kernel = gpu.kernels.get('limit_matrix', { THREADS: threads, M, N, K });
  const seconds = await bestOf(gpu, () =>
    gpu.dispatch(kernel, { count, rounds, factor: 0.5 }, [y], ...foldGroups(groups)),
  );
  y.destroy();
  const operations = 2 * M * N * K * PRODUCTS_PER_ROUND * rounds * groups * 4;
  return { what: `f16 subgroup matrices of ${M}x${N}x${K}, summed in f32`, perSecond: operations / seconds };
}

/** By the host's clock over a few dispatches in one submit, so that the wait for the device counts little; the first pass compiles. */
async function bestOf(gpu: Gpu, dispatch: () => void): Promise<number> {
  const dispatches = gpu.opened.isSoftware ? 1 : 8;
  let best = Number.POSITIVE_INFINITY;
  for (let pass = 0; pass < PASSES; pass++) {
    await gpu.idle();
    const started = performance.now();
    for (let i = 0; i < dispatches; i++) dispatch();
    await gpu.idle();
    if (pass > 0) best = Math.min(best, (performance.now() - started) / 1000 / dispatches);
  }
  return best;
}
