import { describe, expect, test } from 'vitest';
import { requantizeTable } from '../../../core/formats/requantize.ts';
import { largestDifference, logitsOf, openFixture, relativeError } from './fixtures.ts';
import { checkpointWithTables } from './quantized.ts';

/** The reference multiplies by the same numbers; only the place where a sum is rounded to f32 may differ. */
const REFERENCE_TOLERANCE = 1e-4;
/** wasm rounds the head's input to int8, about half a percent. */
const WASM_TOLERANCE = 2e-2;

// Tied and not, a scaled embedding, learned positions, an embedding of another width, inputs that 32 does not divide.
const NAMES = ['llama', 'qwen2', 'gemma2', 'opt-350m', 'falcon-7b'] as const;

describe.each(NAMES.flatMap((name) => [[name, 8] as const, [name, 4] as const]))(
  '%s with a head of %i bits',
  (name, headBits) => {
    test.each(['reference', 'wasm'] as const)('on %s is the model whose tables were rounded', async (backend) => {
      const fixture = await openFixture(name);
      const { ids } = fixture.golden.long;
      const checkpoint = await checkpointWithTables(fixture, (table) => requantizeTable(table, headBits));
      const rounded = await logitsOf({ ...fixture, checkpoint }, ids);
      const got = await logitsOf(fixture, ids, { headBits, backend });
      if (backend === 'reference') expect(largestDifference(got, rounded)).toBeLessThan(REFERENCE_TOLERANCE);
      else expect(relativeError(got, rounded)).toBeLessThan(WASM_TOLERANCE);
      expect(largestDifference(rounded, await logitsOf(fixture, ids))).toBeGreaterThan(REFERENCE_TOLERANCE);
    });
  },
);
