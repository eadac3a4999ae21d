/** LoneLayer: one linear from a file of its own: its weight and the Hessian (or the inputs) to quantize it by. */
import { NibbleError } from '../../core/errors.ts';
import { openCheckpoint } from '../../core/formats/checkpoint-index.ts';
import { TensorReader } from '../../core/formats/tensor-reader.ts';
import { writeOutput } from '../output.ts';
import { writeSafetensors } from '../safetensors-file.ts';
import type { LocalModel } from '../store/local.ts';
import { finishAll, type SolverKernels } from './kernels.ts';
import type { Machine } from './machine.ts';
import { metadataOf } from './model-writer.ts';
import { bytesOfTensor, type NamedTensor, packedTensorsOf } from './packed-tensors.ts';
import { prepareHessian, solveLinear } from './solver.ts';
import type { SolverOptions } from './solver-options.ts';

export interface LoneLayer {
  files: LocalModel;
  out: string;
  force: boolean;
  source: string;
  solver: SolverOptions;
}

/**
 * Reads weight [out, in] and hessian [in, in] f32, or else calibration [sequences, tokens, in]; writes qweight, qzeros, scales, g_idx
 * and the bias where there is one.
 */
export async function quantizeLoneLayer(
  { files, out, force, source, solver }: LoneLayer,
  openMachine: () => Promise<Machine>,
): Promise<{ relative_error: number; squared_error: number; damping: number }> {
  const checkpoint = await openCheckpoint(files);
  const tensors = new TensorReader(checkpoint, '', 'its weight asks');
  const entry = tensors.entry(
    'weight',
    ['F32', 'F16', 'BF16'],
    'is missing: a lone file holds the weight of one linear',
  );
  const [rows, columns] = tensors.matrix('weight', entry);
  const weight = await tensors.float('weight', [rows, columns]);
  const bias = tensors.has('bias') ? checkpoint.tensors.get('bias')! : null;
  const machine = await openMachine();
  try {
    const { kernels } = machine;
    const hessian = await hessianOf(kernels, tensors, columns);
    const at = { file: source, label: 'weight' };
    const prepared = await prepareHessian(kernels, hessian, columns, solver, at);
    const problem = { ...at, rows, columns, weight, bias: null };
    const solution = await solveLinear(kernels, problem, prepared, solver);
    const packed = packedTensorsOf('', solution.weight);
    const settings = {
      bits: solver.bits,
      group_size: solver.groupSize ?? -1,
      desc_act: solver.columnOrder === 'falling-activation',
      sym: solver.zeros === 'symmetric',
      checkpoint_format: 'gptq',
      damp_percent: solver.damping,
    };
    await writeOutput(out, { kind: 'file', force, source }, async (temporary) => {
      const all = bias === null ? packed : [...packed, { ...bias, values: null }];
      const bytesOf = async (tensor: (typeof all)[number]) =>
        tensor.values === null ? checkpoint.read('bias') : bytesOfTensor(tensor as NamedTensor);
      await writeSafetensors(temporary, all, bytesOf, () => {}, metadataOf(settings));
    });
    const { relativeError, squaredError, damping } = solution;
    return { relative_error: relativeError, squared_error: squaredError, damping };
  } finally {
    await machine.close();
  }
}

async function hessianOf(kernels: SolverKernels, tensors: TensorReader, columns: number): Promise<Float32Array> {
  if (tensors.has('hessian')) return tensors.float('hessian', [columns, columns]);
  const entry = tensors.entry(
    'calibration',
    ['F32', 'F16', 'BF16'],
    'is missing, and so is "hessian": one of them is needed',
  );
  const [sequences = 0, tokens = 0] = entry.shape;
  const inputs = await tensors.float('calibration', [sequences, tokens, columns]);
  if (inputs.length === 0)
    throw new NibbleError({ code: 'file_invalid', file: 'calibration', tensor: 'calibration', rule: 'is empty' });
  const sum = kernels.hessian(columns);
  for (let sequence = 0; sequence < sequences; sequence++)
    await sum.add(inputs.subarray(sequence * tokens * columns, (sequence + 1) * tokens * columns));
  const [hessian] = await finishAll([sum], sequences);
  return hessian!;
}
