/** GPTQ scalars: the tensors in which the oldest text-generation-inference kept a checkpoint's parameters. */
import { NibbleError } from '../errors.ts';
import type { CheckpointFiles } from './checkpoint-index.ts';
import { type GptqConfig, parseGptqConfig } from './gptq-config.ts';

/**
 * Reads gptq_bits, gptq_groupsize and gptq_sym; null when the first two are not both there. They go before any config, as in
 * text-generation-inference; a file without gptq_sym was quantized asymmetrically. `config` gives what they do not say.
 */
export async function readGptqScalars(
  checkpoint: CheckpointFiles,
  config: GptqConfig | null,
): Promise<GptqConfig | null> {
  if (!checkpoint.has('gptq_bits') || !checkpoint.has('gptq_groupsize')) return null;
  const scalars = parseGptqConfig(
    {
      bits: await readScalar(checkpoint, 'gptq_bits'),
      group_size: await readScalar(checkpoint, 'gptq_groupsize'),
      sym: checkpoint.has('gptq_sym') && (await readScalar(checkpoint, 'gptq_sym')) !== 0,
    },
    checkpoint.name,
  );
  return { ...scalars, plainModules: config?.plainModules ?? [] };
}

async function readScalar(checkpoint: CheckpointFiles, name: string): Promise<number> {
  const entry = checkpoint.tensors.get(name)!;
  const invalid = (rule: string) =>
    new NibbleError({ code: 'file_invalid', file: checkpoint.name, tensor: name, rule });
  const values = entry.shape.reduce((product, size) => product * size, 1);
  if (values !== 1) throw invalid(`has shape [${entry.shape.join(', ')}] instead of one value`);
  const bytes = await checkpoint.read(name);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (entry.dtype) {
    case 'I64':
      return Number(view.getBigInt64(0, true));
    case 'I32':
      return view.getInt32(0, true);
    case 'BOOL':
    case 'U8':
      return view.getUint8(0);
    default:
      throw invalid(`has dtype ${entry.dtype} instead of I64, I32, U8 or BOOL`);
  }
}
