/** Quantized modules: which tensors of a checkpoint are together one packed weight. */
import { readQuantState } from './bitsandbytes.ts';
import type { CheckpointFiles } from './checkpoint-index.ts';
import { tensorName } from './tensor-reader.ts';

export interface QuantizedModule {
  prefix: string;
  kind: 'gptq' | '4bit' | 'int8';
}

const PARTS: Readonly<Record<QuantizedModule['kind'], readonly string[]>> = {
  gptq: ['qweight', 'qzeros', 'scales', 'g_idx', 'weight'],
  '4bit': [
    'weight',
    'weight.absmax',
    'weight.quant_map',
    'weight.nested_absmax',
    'weight.nested_quant_map',
    'weight.quant_state.bitsandbytes__nf4',
    'weight.quant_state.bitsandbytes__fp4',
  ],
  int8: ['weight', 'SCB', 'weight_format'],
};
/** A tensor that only a packed weight of the kind has: how its name ends. */
const MARKS = [
  ['qweight', 'gptq'],
  ['weight.quant_state.bitsandbytes__nf4', '4bit'],
  ['weight.quant_state.bitsandbytes__fp4', '4bit'],
  ['SCB', 'int8'],
] as const;
/** Parameters of the whole checkpoint as text-generation-inference's first `quantize` stored them. */
const SCALARS = ['gptq_bits', 'gptq_groupsize', 'gptq_sym'];

/** In the order of their tensors. A file of one linear has the empty prefix. */
export function quantizedModules(checkpoint: CheckpointFiles): QuantizedModule[] {
  const modules = new Map<string, QuantizedModule>();
  for (const name of checkpoint.tensors.keys())
    for (const [mark, kind] of MARKS) {
      const prefix = name === mark ? '' : name.endsWith(`.${mark}`) ? name.slice(0, -mark.length - 1) : null;
      if (prefix !== null && !modules.has(prefix)) modules.set(prefix, { prefix, kind });
    }
  return [...modules.values()];
}

/** Names of the tensors that dequantised weights replace: the modules' parts, and a plain weight beside a packed one. Biases stay. */
export function packedTensors(checkpoint: CheckpointFiles, modules: readonly QuantizedModule[]): ReadonlySet<string> {
  const names = modules.flatMap(({ prefix, kind }) => PARTS[kind].map((part) => tensorName(prefix, part)));
  return new Set([...names, ...SCALARS].filter((name) => checkpoint.has(name)));
}

/** [out, in] of a module's weight; `bits` is GPTQ's. */
export async function shapeOf(
  checkpoint: CheckpointFiles,
  { prefix, kind }: QuantizedModule,
  bits: number,
): Promise<[number, number]> {
  if (kind === '4bit') {
    const { outFeatures, inFeatures } = await readQuantState(checkpoint, prefix);
    return [outFeatures, inFeatures];
  }
  const [rows = 0, cols = 0] = checkpoint.tensors.get(
    tensorName(prefix, kind === 'gptq' ? 'qweight' : 'weight'),
  )!.shape;
  return kind === 'gptq' ? [cols, (rows * 32) / bits] : [rows, cols];
}

/** Weights that the model would have in plain floats: packed ones count what they stand for, their scales and zeros nothing. */
export async function countParameters(checkpoint: CheckpointFiles, bits: number): Promise<number> {
  const modules = quantizedModules(checkpoint);
  const packed = packedTensors(checkpoint, modules);
  let parameters = 0;
  for (const [name, { shape }] of checkpoint.tensors)
    if (!packed.has(name)) parameters += shape.reduce((product, size) => product * size, 1);
  for (const module of modules) {
    const [outFeatures, inFeatures] = await shapeOf(checkpoint, module, bits);
    parameters += outFeatures * inFeatures;
  }
  return parameters;
}
