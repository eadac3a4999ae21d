/** Vitest: the edge inside workerd, with its real Durable Objects. */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cloudflareTest } from '@cloudflare/vitest-plugin';
import { defineConfig } from 'vitest/config';
import { ensureWasmBuilt } from '../../scripts/build-wasm.ts';
import { startOutside } from './outside.ts';

ensureWasmBuilt();
const DEMO = fileURLToPath(new URL('../../models/demo/gptq-int4/', import.meta.url));

/** A file of the demo model, for tests that put it into the bucket. */
async function demoFile(request: { url: string }): Promise<Response> {
  const bytes = await readFile(DEMO + basename(new URL(request.url).pathname));
  return new Response(new Uint8Array(bytes));
}

/** What the edge calls: webhook receivers and Stripe. */
const OUTSIDE = await startOutside();

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  cacheDir: '../../node_modules/.vite/edge',
  plugins: [
    cloudflareTest({
      main: './worker.ts',
      wrangler: { configPath: '../../wrangler.toml' },
      miniflare: {
        durableObjects: { FALLBACK: { className: 'FallbackObject', useSQLite: true } },
        r2Buckets: ['MODELS'],
        serviceBindings: { DEMO_FILES: demoFile },
        bindings: {
          KEY_SECRETS: JSON.stringify({ 1: '11'.repeat(32), 2: '22'.repeat(32) }),
          ADMIN_KEY: 'admin-key-of-the-tests',
          // Round prices, so that costs are read off the tokens: 3 pico-USD a prompt token, 5 a completion token.
          DEFAULT_PROMPT_MICRO_USD_PER_MTOK: 3,
          DEFAULT_COMPLETION_MICRO_USD_PER_MTOK: 5,
          QUEUE_DEPTH: 64,
          OUTSIDE,
          STRIPE_API_KEY: 'sk_test_of_the_tests',
          STRIPE_API_BASE: OUTSIDE,
        },
      },
    }),
  ],
  // The objects log every failed job; here most failures are meant.
  test: {
    name: 'edge',
    silent: 'passed-only',
    include: ['*.test.ts', '{queue,ledger,catalog,fallback,security}/*.test.ts'],
    testTimeout: 30_000,
  },
});
