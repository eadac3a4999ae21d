/** Vitest: one project in Node, two in workerd. */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'node',
          include: ['test/**/*.test.ts'],
          exclude: ['test/edge/*.test.ts', 'test/edge/{queue,ledger,catalog,fallback}/**', 'test/wasm/workerd/**'],
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      'test/edge/vitest.config.ts',
      'test/wasm/workerd/vitest.config.ts',
    ],
  },
});
