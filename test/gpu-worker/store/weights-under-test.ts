/** WeightsUnderTest: commands on miniflare's S3, one store a file, and before each test an empty folder for the Hub's models. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { nibble } from '../../end-to-end/running-edge.ts';
import { DEMO_DIRECTORY } from '../demo-model.ts';
import { BUCKET, LocalS3 } from './local-s3.ts';

export const F16 = join(DEMO_DIRECTORY, 'f16');
export const AT = `s3://${BUCKET}`;

/** Of the test file that imports this one. */
export let s3: LocalS3;
beforeAll(async () => {
  s3 = await LocalS3.start();
});
afterAll(() => s3?.stop());
beforeEach(async () => {
  s3.proxy.reset();
  await rm(s3.environment.HUGGINGFACE_HUB_CACHE!, { recursive: true, force: true });
});

export const run = (...args: string[]) => nibble(args, s3.environment);

export async function json(...args: string[]) {
  const { code, stdout, stderr } = await run(...args, '--json');
  expect([code, stderr]).toEqual([0, '']);
  return JSON.parse(stdout);
}
