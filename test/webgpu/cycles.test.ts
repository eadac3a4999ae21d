/** A hundred programs, one after another, that start, generate and exit. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { DEMO_DIRECTORY } from '../gpu-worker/demo-model.ts';
import './gpu-under-test.ts';

/** Under the Node of this test: where only the bundle is, there is no other. */
const CLI = join(import.meta.dirname, '..', '..', 'gpu-worker', 'cli.ts');
const CYCLES = Number(process.env.NIBBLE_CYCLES ?? 12);

test(
  `${CYCLES} start–generate–exit cycles end with exit code 0 and the same text`,
  async () => {
    const texts = new Set<string>();
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const args = [
        CLI,
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
      ];
      // Rejects, with what it said, when it ends with another code than 0 or by a signal.
      const { stdout } = await promisify(execFile)(process.execPath, args).catch((error) => {
        throw new Error(`cycle ${cycle}: code ${error.code}, signal ${error.signal}: ${error.stderr}`);
      });
      texts.add(JSON.parse(stdout).text);
    }
    expect(texts.size).toBe(1);
  },
  60_000 * CYCLES,
);
