/** Backends: the kernel set that --backend names. */
import process from 'node:process';
import type { Backend, BackendName } from '../core/model/backend.ts';
import { ReferenceBackend } from '../core/model/reference.ts';
import { ensureWasmBuilt } from '../scripts/build-wasm.ts';
import { loadWasmBackend } from '../wasm/node.ts';
import { type Options, usage } from './command-line.ts';
import { openWebGpuBackend, type WebGpuBackend } from './webgpu/backend.ts';
import { probeAdapter } from './webgpu/probe.ts';

export interface BackendChoice {
  name: 'auto' | BackendName;
  /** Of a GPU's products; null: float16 where the GPU has it. */
  dtype: 'float16' | 'float32' | null;
  deterministic: boolean;
  /** Whether a GPU may multiply by subgroup matrices. */
  matrices: boolean;
  /** Of the CPU's kernels. */
  threads: number;
}

/** --backend, --dtype, --deterministic and --subgroup-matrices. */
export function backendChoice(options: Options): BackendChoice {
  return {
    name: (options.text('backend') ?? 'auto') as BackendChoice['name'],
    dtype: options.text('dtype') as BackendChoice['dtype'],
    deterministic: options.on('deterministic'),
    matrices: options.toggle('subgroup-matrices') ?? true,
    threads: options.number('threads') ?? 1,
  };
}

/** `auto`: a real GPU if one answers, else the CPU. */
export async function openBackend(choice: BackendChoice): Promise<Backend> {
  const { name } = choice;
  switch (name) {
    case 'auto':
      return (await openRealGpu(choice)) ?? openCpu(choice);
    case 'wasm':
      return openCpu(choice);
    case 'reference':
      refuseGpuOptions(choice, name);
      return new ReferenceBackend();
    case 'webgpu':
      return openAnyGpu(choice);
    case 'cuda':
      throw usage(`--backend ${name} is not supported yet`);
    default:
      return name satisfies never;
  }
}

async function openCpu(choice: BackendChoice): Promise<Backend> {
  refuseGpuOptions(choice, 'wasm');
  ensureWasmBuilt();
  return loadWasmBackend({ variant: 'auto', threads: choice.threads });
}

/** null when there is no real GPU: a software one is slower than the CPU's own kernels. */
async function openRealGpu(choice: BackendChoice): Promise<Backend | null> {
  const adapter = await probeAdapter();
  return adapter === null || adapter.isSoftware ? null : openGpu(choice, 'real');
}

/** A software one is taken too, with a word on stderr. */
export async function openAnyGpu(choice: BackendChoice): Promise<WebGpuBackend> {
  const backend = await openGpu(choice, 'any');
  if (backend.gpu.opened.isSoftware)
    process.stderr.write(`${backend.device} is a software adapter: right answers, slowly\n`);
  return backend;
}

function openGpu({ dtype, deterministic, matrices }: BackendChoice, adapter: 'real' | 'any'): Promise<WebGpuBackend> {
  return openWebGpuBackend({
    adapter,
    precision: dtype === 'float32' ? 'f32' : 'auto',
    // Every index that comes from outside is checked before a kernel sees it, and tests run with clamped accesses.
    bounds: 'none',
    deterministic,
    matrices: matrices ? 'auto' : 'none',
  });
}

/** The CPU's kernels compute in one precision only. */
function refuseGpuOptions({ dtype }: BackendChoice, backend: string): void {
  if (dtype !== null) throw usage(`--dtype is for --backend webgpu; this runs on ${backend}`);
}
