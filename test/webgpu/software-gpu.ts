/** SoftwareGpu: SwiftShader, unpacked from the npm package of the headless Chromium, so that every machine with Node runs WGSL. */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { brotliDecompressSync } from 'node:zlib';

const CACHE = join(import.meta.dirname, '..', '..', 'node_modules', '.cache', 'nibble');

/** The environment in which Dawn finds SwiftShader and nothing else. */
export function swiftShaderEnvironment(): { VULKAN_LOADER: string; VK_DRIVER_FILES: string } {
  const folder = join(CACHE, 'swiftshader');
  if (!existsSync(folder)) unpack(folder);
  return {
    VULKAN_LOADER: join(folder, 'libvulkan.so.1'),
    VK_DRIVER_FILES: join(folder, 'vk_swiftshader_icd.json'),
  };
}

/** Makes this process use SwiftShader; before the first device is opened. */
export function useSwiftShader(): void {
  Object.assign(process.env, swiftShaderEnvironment());
}

/** Whole or not at all: test processes may unpack at the same time. */
function unpack(folder: string): void {
  mkdirSync(CACHE, { recursive: true });
  const packed = join(
    dirname(createRequire(import.meta.url).resolve('@sparticuz/chromium')),
    '../bin/swiftshader.tar.br',
  );
  const temporary = mkdtempSync(join(CACHE, 'unpacking-'));
  const { status, stderr } = spawnSync('tar', ['-x', '-C', temporary], {
    input: brotliDecompressSync(readFileSync(packed)),
  });
  if (status !== 0) throw new Error(`tar: ${stderr}`);
  try {
    renameSync(temporary, folder);
  } catch {
    rmSync(temporary, { recursive: true });
  }
}
