/** Vitest: Node, WebGPU on SwiftShader (and on the system's adapter where scripts/test.ts found one), and two projects in workerd. */
import process from 'node:process';
import { defineConfig } from 'vitest/config';

const gpus = ['swiftshader', ...(process.env.NIBBLE_SYSTEM_GPU ? ['system'] : [])];

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'node',
          include: ['test/**/*.test.ts'],
          exclude: [
            'test/edge/*.test.ts',
            'test/edge/{queue,ledger,catalog,fallback,security}/**',
            'test/wasm/workerd/**',
            'test/webgpu/**',
          ],
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      ...gpus.map((gpu) => ({
        test: {
          name: `webgpu-${gpu}`,
          include: ['test/webgpu/**/*.test.ts'],
          // Lavapipe compiles for minutes with all of LLVM's passes, and the tests run each shader a few times; other drivers do not read this.
          env: { NIBBLE_TEST_GPU: gpu, GALLIVM_PERF: 'nopt' },
          testTimeout: 600_000,
          hookTimeout: 120_000,
        },
      })),
      'test/edge/vitest.config.ts',
      'test/wasm/workerd/vitest.config.ts',
    ],
  },
});
