/// <reference types="node" />
/** Node: finds, compiles and checks the kernel build that this process can run. */
import { readFile } from 'node:fs/promises';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { NibbleError } from '../core/errors.ts';
import { WasmBackend } from './backend.ts';
import { instantiateKernels, type KernelVariant } from './kernels.ts';
import { KernelMemory } from './memory.ts';
import { withMemory } from './memory-import.ts';
import { StepChoice } from './step-choice.ts';
import { SingleThread } from './team.ts';
import { MAX_THREADS, ThreadTeam } from './threads.ts';

/** V8 of Node 20 computes i32x4.relaxed_dot_i8x16_i7x16_add_s wrongly until a function is hot. */
const OLDEST_NODE_MAJOR = 22;

/** A module whose one function uses i32x4.relaxed_dot_i8x16_i7x16_add_s (0xfd 0x113) on three parameters. */
// biome-ignore format: sections of a binary
const RELAXED_PROBE = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
  0x01, 0x08, 0x01, 0x60, 0x03, 0x7b, 0x7b, 0x7b, 0x01, 0x7b,
  0x03, 0x02, 0x01, 0x00,
  0x0a, 0x0d, 0x01, 0x0b, 0x00, 0x20, 0x00, 0x20, 0x01, 0x20, 0x02, 0xfd, 0x93, 0x02, 0x0b,
]);

export function hasRelaxedSimd(): boolean {
  return WebAssembly.validate(RELAXED_PROBE);
}

export interface WasmOptions {
  /** `auto` takes relaxed where the engine has it; both give the same bits. */
  variant?: 'auto' | KernelVariant;
  maxBytes?: number;
  /** 1 unless given; any number gives the same bits. */
  threads?: number;
  /** Whether steps that one thread does faster are left to one (yes, unless given). */
  checkThreads?: boolean;
}

/** Throws `model_unsupported` on an old Node, `file_missing` before `npm run build`. */
export async function loadWasmBackend(options: WasmOptions = {}): Promise<WasmBackend> {
  expectNode(process.versions.node);
  const wanted = options.variant ?? 'auto';
  const variant = wanted === 'auto' ? (hasRelaxedSimd() ? 'relaxed' : 'plain') : wanted;
  const file = fileURLToPath(new URL(`./build/nibble-${variant}.wasm`, import.meta.url));
  const bytes = await readFile(file).catch(() => {
    throw new NibbleError({ code: 'file_missing', file, reason: 'the kernels are not built; run `npm run build`' });
  });
  const threads = Math.max(1, Math.min(MAX_THREADS, options.threads ?? 1));
  const memory = new KernelMemory(options.maxBytes, threads > 1);
  const module = await WebAssembly.compile(withMemory(threads > 1 ? 'shared' : 'unshared', bytes));
  const kernels = instantiateKernels(module, memory.memory);
  if (threads === 1) return new WasmBackend(kernels, new SingleThread(kernels, memory.memory), memory, variant);
  const choice = (options.checkThreads ?? true) ? new StepChoice() : null;
  return new WasmBackend(kernels, await ThreadTeam.start(module, memory, threads, choice), memory, variant);
}

export function expectNode(version: string): void {
  if (Number.parseInt(version, 10) < OLDEST_NODE_MAJOR)
    throw new NibbleError({
      code: 'model_unsupported',
      file: 'wasm',
      option: `Node ${version}`,
      reason: `Node ${OLDEST_NODE_MAJOR} or newer is needed: older ones compute relaxed SIMD wrongly`,
    });
}
