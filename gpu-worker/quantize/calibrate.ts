/** Calibrate: a model's calibration ids, from the command's options. */
import { NibbleError } from '../../core/errors.ts';
import { readJson } from '../../core/formats/file-set.ts';
import { MAX_CONFIG_BYTES } from '../../core/formats/quantization-config.ts';
import type { ModelConfig } from '../../core/model/config.ts';
import { MAX_TOKENIZER_BYTES } from '../../core/model/model-files.ts';
import { Tokenizer } from '../../core/text/tokenizer.ts';
import type { Options } from '../command-line.ts';
import { hubAccess } from '../store/hub-access.ts';
import type { LocalModel } from '../store/local.ts';
import { sampleCalibration } from './calibration.ts';
import { type DatasetPlace, readCalibration } from './datasets.ts';

/** --dataset when it is absent. */
const DEFAULT_DATASET = 'wikitext2';

/** Ids of each sample, by the model's own tokenizer; `dataset` as it was asked for. Throws as readCalibration and sampleCalibration do. */
export async function calibrate(
  options: Options,
  files: LocalModel,
  { contextTokens, vocabSize }: ModelConfig,
): Promise<{ sequences: number[][]; dataset: string }> {
  const dataset = options.text('dataset') ?? DEFAULT_DATASET;
  const { file, content } = await readCalibration(dataset, placeOf(options));
  const tokenizer = new Tokenizer(
    await readJson(files, 'tokenizer.json', MAX_TOKENIZER_BYTES, 'required'),
    (await readJson(files, 'tokenizer_config.json', MAX_CONFIG_BYTES)) ?? {},
  );
  const sequences = sampleCalibration(content, {
    file,
    samples: options.number('nsamples') ?? 128,
    windowTokens: Math.min(options.number('seqlen') ?? 2048, contextTokens),
    seed: options.number('seed') ?? 0,
    encode: (text) => tokenizer.encode(text, 'add'),
  });
  const beyond = sequences.flat().find((id) => id >= vocabSize);
  if (beyond !== undefined)
    throw new NibbleError({
      code: 'file_invalid',
      file: `${files.name}/tokenizer.json`,
      tensor: null,
      rule: `gives the token ${beyond} for the calibration data; the model has ${vocabSize}, from 0: it is of another model`,
    });
  return { sequences, dataset };
}

/** A directory that was named is the only place: what it lacks is not quietly fetched. */
function placeOf(options: Options): DatasetPlace {
  const directory = options.text('dataset-dir');
  if (directory !== null) return { kind: 'directory', directory };
  return { kind: 'hub', directory: '.', cache: options.text('huggingface-hub-cache'), access: hubAccess() };
}
