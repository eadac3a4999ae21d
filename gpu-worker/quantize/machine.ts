/** Machine: what --backend quantizes on: the passes through layers, and the solver's kernels. */
import type { BackendName } from '../../core/model/backend.ts';
import { type BackendChoice, openAnyGpu, openBackend } from '../backends.ts';
import type { SolverKernels } from './kernels.ts';
import type { LayerPasses } from './layer-passes.ts';
import { LocalPasses } from './local-passes.ts';
import { ReferenceKernels } from './reference-kernels.ts';
import { ThreadPasses } from './thread-passes.ts';
import { defaultThreads } from './threads.ts';
import { openWasmKernels } from './wasm-kernels.ts';
import { WebGpuKernels } from './webgpu-kernels.ts';

export interface Machine {
  passes: LayerPasses;
  kernels: SolverKernels;
  close(): Promise<void>;
}

/** A GPU runs the layers, sums the Hessians and sweeps; factors, which need f64, come from WASM and threads. */
export async function openMachine(backend: 'auto' | BackendName, threads: number | null): Promise<Machine> {
  if (backend === 'reference') {
    const kernels = new ReferenceKernels();
    const passes = new LocalPasses(backend, () => openBackend(choiceOf(backend)), kernels);
    return { passes, kernels, close: async () => {} };
  }
  if (backend === 'auto' || backend === 'wasm') {
    const kernels = await openWasmKernels(threads ?? defaultThreads());
    return { passes: new ThreadPasses(kernels), kernels, close: () => kernels.close() };
  }
  // Refuses a backend that is not there before any thread starts.
  if (backend === 'cuda') await openBackend(choiceOf(backend));
  const { gpu } = await openAnyGpu(choiceOf('webgpu'));
  const kernels = new WebGpuKernels(gpu, await openWasmKernels(threads ?? defaultThreads()));
  const passes = new LocalPasses(backend, () => openBackend(choiceOf(backend)), kernels);
  return { passes, kernels, close: () => kernels.close() };
}

/** In full precision and one order of summation, so that the same data gives the same bytes. */
function choiceOf(name: 'auto' | BackendName): BackendChoice {
  const isGpu = name === 'webgpu' || name === 'cuda';
  return { name, dtype: isGpu ? 'float32' : null, deterministic: true, matrices: false, threads: 1 };
}
