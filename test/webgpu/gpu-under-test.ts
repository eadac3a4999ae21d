/** The GPU under test: SwiftShader, or the system's adapter where the project `webgpu-system` runs. */
import process from 'node:process';
import type { Activation } from '../../core/model/backend.ts';
import { Activations } from '../../gpu-worker/webgpu/activations.ts';
import { openWebGpuBackend, WebGpuBackend, type WebGpuOptions } from '../../gpu-worker/webgpu/backend.ts';
import { openDevice } from '../../gpu-worker/webgpu/device.ts';
import { Gpu } from '../../gpu-worker/webgpu/gpu.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { useSwiftShader } from './software-gpu.ts';

if (process.env.NIBBLE_TEST_GPU !== 'system') useSwiftShader();

const DEFAULTS: WebGpuOptions = {
  adapter: 'any',
  precision: 'f32',
  bounds: 'robust',
  deterministic: false,
  matrices: 'auto',
};

export function openBackend(options: Partial<WebGpuOptions> = {}): Promise<WebGpuBackend> {
  return openWebGpuBackend({ ...DEFAULTS, ...options });
}

/** A new backend on a device that several share, so that kernels compile once; disposing of it leaves the device open. */
export function backendOn(gpu: Gpu, options: Partial<WebGpuOptions> = {}): WebGpuBackend {
  const backend = new WebGpuBackend(gpu, { ...DEFAULTS, ...options });
  backend.dispose = () => gpu.idle();
  return backend;
}

export async function openGpu(options: Partial<WebGpuOptions> = {}): Promise<Gpu> {
  return new Gpu(await openDevice({ ...DEFAULTS, ...options }));
}

/** A device and its activations, for ops below the Backend. A step has begun. */
export async function openSpace(options: Partial<WebGpuOptions> = {}): Promise<Space> {
  const given = { ...DEFAULTS, ...options };
  const gpu = new Gpu(await openDevice(given));
  const activations = new Activations(gpu);
  activations.begin();
  return { gpu, activations };
}

/** `values` [rows, cols] as an activation of this step. */
export function place({ gpu, activations }: Space, values: Float32Array, cols: number): Activation {
  const x = activations.make(values.length / cols, cols);
  gpu.flush();
  gpu.write(x.buffer, 0, values.slice());
  return x;
}

export async function readBack({ gpu, activations }: Space, x: Activation): Promise<Float32Array> {
  return new Float32Array(await gpu.read(activations.bufferOf(x), 4 * x.rows * x.cols));
}
