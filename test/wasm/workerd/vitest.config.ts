/** Vitest: the kernels inside workerd, as the edge runs them. */
import { fileURLToPath } from 'node:url';
import { cloudflareTest } from '@cloudflare/vitest-plugin';
import { defineConfig } from 'vitest/config';
import { ensureWasmBuilt } from '../../../scripts/build-wasm.ts';

ensureWasmBuilt();
const here = fileURLToPath(new URL('.', import.meta.url));

export default defineConfig({
  root: here,
  cacheDir: '../../../node_modules/.vite/wasm-workerd',
  plugins: [cloudflareTest({ wrangler: { configPath: './wrangler.jsonc' } })],
  test: { name: 'wasm-workerd', include: ['*.test.ts'] },
});
