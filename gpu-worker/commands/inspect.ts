/** Inspect: what a checkpoint holds, without loading its weights. */
import { openCheckpoint } from '../../core/formats/checkpoint-index.ts';
import { readJson } from '../../core/formats/file-set.ts';
import { readQuantizationConfig } from '../../core/formats/gptq-config.ts';
import type { Command, Options } from '../command-line.ts';
import { JSON_FLAG } from '../model-flags.ts';
import { openLocalModel } from '../store/local.ts';

const MAX_CONFIG_BYTES = 4_000_000;

export const inspect: Command = {
  name: 'inspect',
  summary: 'tensors, sizes and quantization of a checkpoint',
  positionals: ['MODEL'],
  flags: { json: JSON_FLAG },
  pending: ['revision'],
  examples: ['nibble inspect models/demo/gptq-int4', 'nibble inspect model.safetensors --json'],
  run,
};

async function run(options: Options): Promise<void> {
  const files = await openLocalModel(options.positionals[0]!);
  try {
    const checkpoint = await openCheckpoint(files);
    const configJson = files.lone === undefined ? await readJson(files, 'config.json', MAX_CONFIG_BYTES) : null;
    const gptq = files.lone === undefined ? await readQuantizationConfig(files) : null;
    const tensors = [...checkpoint.tensors].map(([name, { dtype, shape, begin, end }]) => ({
      name,
      dtype,
      shape: [...shape],
      bytes: end - begin,
    }));
    const result = {
      model_type:
        configJson !== null && typeof configJson === 'object' && 'model_type' in configJson
          ? configJson.model_type
          : null,
      parameters: parametersOf(tensors, gptq?.bits ?? null),
      weight_bytes: tensors.reduce((sum, { bytes }) => sum + bytes, 0),
      quantization:
        gptq === null
          ? null
          : {
              method: 'gptq',
              bits: gptq.bits,
              group_size: gptq.groupSize ?? -1,
              desc_act: gptq.actOrder,
              sym: gptq.symmetric,
              checkpoint_format: gptq.zeroOffset === 1 ? 'gptq' : 'gptq_v2',
            },
      tensors,
    };
    if (options.on('json')) {
      console.log(JSON.stringify(result));
      return;
    }
    const rows = tensors.map(
      ({ name, dtype, shape, bytes }) =>
        `${name.padEnd(56)} ${dtype.padEnd(5)} ${`[${shape.join(', ')}]`.padEnd(18)} ${bytes}`,
    );
    const quantization =
      gptq === null
        ? 'none'
        : `gptq, ${gptq.bits} bits, ${gptq.groupSize === null ? 'one group' : `groups of ${gptq.groupSize}`}`;
    console.log(
      [
        ...rows,
        '',
        `model type ${result.model_type ?? 'unknown'}, ${result.parameters} parameters, ${result.weight_bytes} bytes, quantization ${quantization}`,
      ].join('\n'),
    );
  } finally {
    await files.close();
  }
}

/** Weights a model of plain floats would have: a packed qweight counts its values, its scales and zeros count nothing. */
function parametersOf(tensors: readonly { name: string; shape: number[] }[], bits: number | null): number {
  const packed = new Set(
    bits === null
      ? []
      : tensors.filter(({ name }) => name.endsWith('.qweight')).map(({ name }) => name.slice(0, -'.qweight'.length)),
  );
  let parameters = 0;
  for (const { name, shape } of tensors) {
    const size = shape.reduce((product, length) => product * length, 1);
    const [, prefix, leaf] = /^(.*)\.([^.]+)$/.exec(name) ?? [null, '', name];
    if (!packed.has(prefix!)) parameters += size;
    else if (leaf === 'qweight') parameters += (size * 32) / bits!;
    else if (leaf === 'bias') parameters += size;
  }
  return parameters;
}
