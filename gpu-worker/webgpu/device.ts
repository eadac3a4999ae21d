/** Device: a WebGPU device of Dawn with what kernels may rely on, and the rules that keep Dawn alive under Node. */
import process from 'node:process';
import { NibbleError } from '../../core/errors.ts';

/** What a kernel variant may be chosen by. */
export interface GpuFeatures {
  f16: boolean;
  /** Sizes that a subgroup may have on this adapter; null without subgroup operations. */
  subgroups: { minSize: number; maxSize: number } | null;
  /** Products of matrices by subgroups, of f16 summed in f32; null where there are none that kernels here are written for. */
  matrices: MatrixShape | null;
  timestamps: boolean;
}

/** [M, K] · [K, N], by the threads of one subgroup. */
export interface MatrixShape {
  M: number;
  N: number;
  K: number;
  subgroupSize: number;
}

export interface OpenedDevice {
  device: GPUDevice;
  queue: GPUQueue;
  features: GpuFeatures;
  limits: GPUSupportedLimits;
  /** For people: the adapter's name, or its architecture where it has none. */
  description: string;
  /** Runs on the CPU. */
  isSoftware: boolean;
  /** Resolves with the driver's reason once the device is gone, also by `destroy`. */
  lost: Promise<string>;
}

export interface DeviceOptions {
  /** `real`: a software adapter is refused; `any`: it is taken when there is no other. */
  adapter: 'real' | 'any';
  /** `f32` turns 16-bit floats off where the adapter has them. */
  precision: 'auto' | 'f32';
  /** `robust`: every access is clamped to its buffer, as browsers do; `none` trusts the kernels, which tests run robust. */
  bounds: 'robust' | 'none';
}

/**
 * Dawn aborts the process when the object that `create` returned is collected while a device of it lives,
 * so every one of them is kept until the process ends.
 */
const instances: GPU[] = [];

const WANTED_LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxStorageBuffersPerShaderStage',
] as const;

const SUBGROUP_MATRIX = 'chromium-experimental-subgroup-matrix';

/** Throws `model_unsupported` when there is no adapter of the wanted sort, with what to do. */
export async function openDevice(options: DeviceOptions): Promise<OpenedDevice> {
  const adapter = await requestAdapter(options.bounds);
  if (adapter === null)
    throw noAdapter('no WebGPU adapter answered; install a Vulkan driver and loader, or use --backend wasm');
  const { info } = adapter;
  const isSoftware = info.isFallbackAdapter || info.architecture === 'software' || info.architecture === 'swiftshader';
  const description = info.description || `${info.vendor} ${info.architecture}`;
  if (options.adapter === 'real' && isSoftware)
    throw noAdapter(`the only adapter is software (${description}), slower than --backend wasm`);

  const has = (feature: string) => adapter.features.has(feature as GPUFeatureName);
  const features: GpuFeatures = {
    f16: options.precision === 'auto' && has('shader-f16'),
    subgroups: has('subgroups') ? { minSize: info.subgroupMinSize, maxSize: info.subgroupMaxSize } : null,
    matrices: options.precision === 'auto' && has(SUBGROUP_MATRIX) && has('shader-f16') ? matrixShapeOf(info) : null,
    timestamps: has('timestamp-query'),
  };
  const requiredFeatures = [
    ...(features.f16 ? ['shader-f16'] : []),
    ...(features.subgroups === null ? [] : ['subgroups']),
    ...(has('subgroup-size-control') ? ['subgroup-size-control'] : []),
    ...(features.matrices !== null ? [SUBGROUP_MATRIX] : []),
    ...(features.timestamps ? ['timestamp-query'] : []),
  ] as GPUFeatureName[];
  const device = await adapter.requestDevice({
    requiredFeatures,
    requiredLimits: Object.fromEntries(WANTED_LIMITS.map((name) => [name, adapter.limits[name]])),
  });
  const lost = device.lost.then(({ reason, message }) => `${reason}: ${message}`);
  return {
    device,
    queue: device.queue,
    features,
    limits: device.limits,
    description,
    isSoftware,
    lost,
  };
}

async function requestAdapter(bounds: DeviceOptions['bounds']): Promise<GPUAdapter | null> {
  let dawn: typeof import('webgpu');
  try {
    preloadVulkan();
    dawn = await import('webgpu');
  } catch (error) {
    throw noAdapter(`Dawn cannot be loaded here: ${(error as Error).message.split('\n')[0]}`);
  }
  Object.assign(globalThis, dawn.globals);
  const gpu = dawn.create([
    // Kernels read no workgroup memory that they did not write; clearing it costs time in each workgroup, and SwiftShader a second a kernel.
    `enable-dawn-features=${['allow_unsafe_apis', 'disable_workgroup_init', ...(bounds === 'none' ? ['disable_robustness'] : [])]}`,
    `disable-dawn-features=timestamp_quantization`,
  ]);
  instances.push(gpu);
  return gpu.requestAdapter({ powerPreference: 'high-performance' });
}

interface MatrixInfo {
  subgroupMatrixConfigs?: Iterable<{
    componentType: string;
    resultComponentType: string;
    M: number;
    N: number;
    K: number;
  }>;
}

/** The largest shape that fits linear_gemm_matrix.wgsl's tiles. Subgroups of one size only: its threads are counted by it. */
function matrixShapeOf(info: GPUAdapterInfo): MatrixShape | null {
  const { subgroupMinSize, subgroupMaxSize: subgroupSize } = info;
  if (subgroupMinSize !== subgroupSize || subgroupSize > 64) return null;
  const shapes = [...((info as MatrixInfo).subgroupMatrixConfigs ?? [])].filter(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === 'f16' &&
      resultComponentType === 'f32' &&
      32 % M === 0 &&
      16 % N === 0 &&
      N >= 4 &&
      32 % K === 0,
  );
  const [largest] = shapes.sort((a, b) => b.M * b.N * b.K - a.M * a.N * a.K);
  return largest === undefined ? null : { M: largest.M, N: largest.N, K: largest.K, subgroupSize };
}

/**
 * VULKAN_LOADER names a libvulkan.so.1 outside the system's paths. Once a library of that name is in the process, Dawn's own
 * search finds it; Node complains that it is no module, after it was loaded.
 */
function preloadVulkan(): void {
  const loader = process.env.VULKAN_LOADER;
  if (loader === undefined || loader === '') return;
  try {
    process.dlopen({ exports: {} }, loader);
  } catch (error) {
    const message = (error as Error).message;
    if (!message.includes('did not self-register')) throw new Error(`VULKAN_LOADER: ${message}`);
  }
}

function noAdapter(reason: string): NibbleError {
  return new NibbleError({ code: 'model_unsupported', file: 'webgpu', option: 'backend', reason });
}
