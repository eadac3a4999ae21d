/** What a device refuses while weights load: a named error that says which tensor and how much, and a device that goes on. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { create, globals } from 'webgpu';
import { Activations } from '../../gpu-worker/webgpu/activations.ts';
import type { OpenedDevice } from '../../gpu-worker/webgpu/device.ts';
import { Gpu } from '../../gpu-worker/webgpu/gpu.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { denseOf, gaussians } from '../wasm/inputs.ts';
import { openSpace, readBack } from './gpu-under-test.ts';
import { F32_TOLERANCE, LinearsUnderTest } from './linear-under-test.ts';

/** WebGPU's default limit of a buffer, which a device that asks for no more enforces. */
const MOST_BUFFER_BYTES = 256 * 2 ** 20;

let opener: Space;
let space: Space;
let instance: GPU;
beforeAll(async () => {
  // Makes the adapter under test the one that is found.
  opener = await openSpace();
  Object.assign(globalThis, globals);
  instance = create([]);
  const device = await (await instance.requestAdapter())!.requestDevice();
  const limits = { ...opener.gpu.opened.limits } as GPUSupportedLimits;
  for (const name of ['maxStorageBuffersPerShaderStage', 'maxComputeWorkgroupStorageSize'] as const)
    Object.assign(limits, { [name]: device.limits[name] });
  // More than the device has: what it then refuses it refuses itself.
  Object.assign(limits, { maxBufferSize: 2 ** 40, maxStorageBufferBindingSize: 2 ** 40 });
  const opened: OpenedDevice = {
    device,
    queue: device.queue,
    features: { f16: false, subgroups: null, matrices: null, timestamps: false },
    limits,
    description: 'a device with default limits',
    isSoftware: true,
    lost: device.lost.then(({ message }) => message),
  };
  const gpu = new Gpu(opened);
  space = { gpu, activations: new Activations(gpu) };
  space.activations.begin();
});
afterAll(async () => {
  await space.gpu.destroy();
  await opener.gpu.destroy();
});

describe('weights beyond what the device gives', () => {
  test('a tensor that is refused is named with its bytes, and the next one loads', async () => {
    const tested = new LinearsUnderTest(space);
    // A channel a row, padded to 32 of 4 bytes.
    const rows = MOST_BUFFER_BYTES / 128 + 4;
    const large = denseOf(new Float32Array(rows), 1);
    await expect(tested.linears.load(large, 'model.layers.0.mlp.up_proj')).rejects.toMatchObject({
      failure: { code: 'out_of_memory', what: 'model.layers.0.mlp.up_proj', bytes: rows * 128 },
    });
    const small = denseOf(gaussians(17 * 64, 1), 64);
    expect(await tested.worstError(small, [1, 9])).toBeLessThan(F32_TOLERANCE);
  });

  test('weights that fit alone but not joined say so too, and stay usable', async () => {
    const { linears } = new LinearsUnderTest(space);
    const rows = (3 * MOST_BUFFER_BYTES) / 8 / 128;
    const third = denseOf(new Float32Array(rows).fill(2), 1);
    const loaded = [];
    for (const name of ['q', 'k', 'v']) loaded.push(await linears.load(third, name));
    await expect(linears.join(loaded)).rejects.toMatchObject({
      failure: { code: 'out_of_memory', what: 'joined weights', bytes: 3 * rows * 128 },
    });
    space.activations.begin();
    const rowsOfIt = linears.embed(loaded[1]!, Int32Array.of(0, rows - 1), 3);
    expect(await readBack(space, rowsOfIt)).toEqual(Float32Array.of(6, 6));
  });
});
