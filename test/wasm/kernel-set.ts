/** Kernel set under test: both builds, made when needed. */
import { readFileSync } from 'node:fs';
import { ensureWasmBuilt } from '../../scripts/build-wasm.ts';
import type { WasmBackend } from '../../wasm/backend.ts';
import { instantiateKernels, type Kernels, type KernelVariant } from '../../wasm/kernels.ts';
import { KernelMemory } from '../../wasm/memory.ts';
import { loadWasmBackend } from '../../wasm/node.ts';

const files = ensureWasmBuilt();
export const VARIANTS: KernelVariant[] = ['relaxed', 'plain'];

export function backendOf(variant: KernelVariant): Promise<WasmBackend> {
  return loadWasmBackend({ variant });
}

export function kernelsOf(variant: KernelVariant): { kernels: Kernels; memory: KernelMemory } {
  const memory = new KernelMemory();
  return { kernels: instantiateKernels(new WebAssembly.Module(readFileSync(files[variant])), memory.memory), memory };
}
