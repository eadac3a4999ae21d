/** Kernels: compute pipelines, compiled once for a file and its defines. */
import { NibbleError } from '../../core/errors.ts';
import type { OpenedDevice } from './device.ts';
import { type Defines, interfaceOf, type ParamField, shaderSource } from './kernel-source.ts';

export interface Kernel {
  /** File and defines, for people and profiles. */
  readonly name: string;
  /** Small and unique: part of the keys of bind groups. */
  readonly id: number;
  readonly params: readonly ParamField[];
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

export class Kernels {
  readonly #opened: OpenedDevice;
  readonly #kernels = new Map<string, Kernel>();

  constructor(opened: OpenedDevice) {
    this.#opened = opened;
  }

  /** `file` without .wgsl. A shader that does not compile shows at the next wait for the device, with Dawn's message. */
  get(file: string, defines: Defines = {}): Kernel {
    const name = nameOf(file, defines);
    const known = this.#kernels.get(name);
    if (known !== undefined) return known;
    const kernel = this.#compile(file, defines, name);
    this.#kernels.set(name, kernel);
    return kernel;
  }

  #compile(file: string, defines: Defines, name: string): Kernel {
    const { device } = this.#opened;
    const code = shaderSource(`${file}.wgsl`, defines);
    const { params, storage } = interfaceOf(`${file}.wgsl`, code);
    const most = device.limits.maxStorageBuffersPerShaderStage;
    if (storage.length > most)
      throw new NibbleError({
        code: 'internal',
        reason: `kernel ${name} has ${storage.length} buffers, the adapter ${most}`,
      });
    const entries: GPUBindGroupLayoutEntry[] = [
      { binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: 'uniform', hasDynamicOffset: true } },
      ...storage.map((access, at) => ({
        binding: at + 1,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: access === 'read' ? ('read-only-storage' as const) : ('storage' as const) },
      })),
    ];
    const layout = device.createBindGroupLayout({ label: name, entries });
    const pipeline = device.createComputePipeline({
      label: name,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module: device.createShaderModule({ label: name, code }), entryPoint: 'main' },
    });
    return { name, id: this.#kernels.size, params, pipeline, layout };
  }
}

function nameOf(file: string, defines: Defines): string {
  const parts = Object.entries(defines)
    .filter(([, value]) => value !== false)
    .map(([name, value]) => (value === true ? name : `${name}=${value}`));
  return parts.length === 0 ? file : `${file}(${parts.join(' ')})`;
}
