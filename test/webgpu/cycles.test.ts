/** A hundred programs, one after another, that start, generate and exit. */
import { join } from 'node:path';
import process from 'node:process';
import { expect, test } from 'vitest';
import { nibble } from '../end-to-end/running-edge.ts';
import { DEMO_DIRECTORY } from '../gpu-worker/demo-model.ts';
import './gpu-under-test.ts';

const CYCLES = Number(process.env.NIBBLE_CYCLES ?? 12);

test(
  `${CYCLES} start–generate–exit cycles end with exit code 0 and the same text`,
  async () => {
    const texts = new Set<string>();
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const { code, stdout, stderr } = await nibble([
        'generate',
        '--model-id',
        join(DEMO_DIRECTORY, 'gptq-int4'),
        '--backend',
        'webgpu',
        '--prompt',
        'Once upon a time',
        '--max-new-tokens',
        '4',
        '--json',
      ]);
      expect([cycle, code, code === 0 ? '' : stderr]).toEqual([cycle, 0, '']);
      texts.add(JSON.parse(stdout).text);
    }
    expect(texts.size).toBe(1);
  },
  60_000 * CYCLES,
);
