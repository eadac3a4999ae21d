/** Time on the device by kernel: every dispatch while a profile runs, and none of another time. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import * as rowOps from '../../gpu-worker/webgpu/row-ops.ts';
import { gaussians } from '../wasm/inputs.ts';
import { openSpace, place, readBack } from './gpu-under-test.ts';

let space: Space;
beforeAll(async () => {
  space = await openSpace();
});
afterAll(async () => {
  await space.gpu.destroy();
});

const ROWS = 64;
const COLS = 4096;

/** A step with so many dispatches of two kernels. */
async function run(silus: number, softcaps: number): Promise<Float32Array> {
  let x = place(space, gaussians(ROWS * COLS, 1), COLS);
  for (let i = 0; i < silus; i++) x = rowOps.activate(space, 'silu', x);
  for (let i = 0; i < softcaps; i++) rowOps.softcap(space, x, 30);
  return readBack(space, x);
}

test('names kernels with their calls and times, in several reads', async (context) => {
  const { gpu } = space;
  const unprofiled = await run(3, 1);
  context.skip(!gpu.features.timestamps, 'this adapter has no timestamps');
  expect(gpu.startProfile()).toBe(true);
  expect(await run(3, 1)).toEqual(unprofiled);
  await run(2, 0);
  const times = await gpu.stopProfile();
  const callsOf = (file: string) =>
    times.filter(({ kernel }) => kernel.startsWith(file)).reduce((sum, { calls }) => sum + calls, 0);
  expect([callsOf('activate'), callsOf('softcap')]).toEqual([5, 1]);
  for (const { ms } of times) expect(ms).toBeGreaterThanOrEqual(0);
  expect(times.reduce((sum, { ms }) => sum + ms, 0)).toBeGreaterThan(0);
  expect(times.map(({ ms }) => ms)).toEqual(times.map(({ ms }) => ms).toSorted((a, b) => b - a));
});

test('what runs beside a profile is not in it', async (context) => {
  const { gpu } = space;
  context.skip(!gpu.features.timestamps, 'this adapter has no timestamps');
  await run(4, 4);
  gpu.startProfile();
  await run(0, 2);
  const times = await gpu.stopProfile();
  expect(times.map(({ kernel, calls }) => [kernel.split('(')[0], calls])).toEqual([['softcap', 2]]);
  await run(4, 4);
  expect(await gpu.stopProfile()).toEqual([]);
});
