/// <reference types="node" />
/** Node: finds, compiles and checks the kernel build that this process can run. */
import { readFile } from 'node:fs/promises';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { NibbleError } from '../core/errors.ts';
import { createWasmBackend, type WasmBackend } from './backend.ts';
import type { KernelVariant } from './kernels.ts';

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

/** `auto` takes relaxed where the engine has it; both give the same bits. Throws `model_unsupported` on an old Node, `file_missing` before `npm run build`. */
export async function loadWasmBackend(
  options: { variant?: 'auto' | KernelVariant; maxBytes?: number } = {},
): Promise<WasmBackend> {
  expectNode(process.versions.node);
  const wanted = options.variant ?? 'auto';
  const variant = wanted === 'auto' ? (hasRelaxedSimd() ? 'relaxed' : 'plain') : wanted;
  const file = fileURLToPath(new URL(`./build/nibble-${variant}.wasm`, import.meta.url));
  const bytes = await readFile(file).catch(() => {
    throw new NibbleError({ code: 'file_missing', file, reason: 'the kernels are not built; run `npm run build`' });
  });
  const module = await WebAssembly.compile(bytes);
  return createWasmBackend(module, variant, options.maxBytes === undefined ? {} : { maxBytes: options.maxBytes });
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
