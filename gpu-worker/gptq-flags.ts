/** GptqFlags: the options that describe packed weights without a config file. */
import type { GptqParameters } from '../core/formats/gptq-config.ts';
import type { Flag, Options } from './command-line.ts';

export const GPTQ_FLAGS = {
  bits: { kind: 'integer', minimum: 2, help: 'bits of a weight: 2, 3, 4 or 8' },
  'group-size': {
    kind: 'integer',
    synonyms: ['groupsize'],
    minimum: -1,
    help: 'input channels per scale; -1: one group',
  },
  'desc-act': { kind: 'toggle', synonyms: ['act-order'], help: 'quantized by falling activation' },
  sym: { kind: 'toggle', help: 'zero points in the middle' },
  'checkpoint-format': {
    kind: 'text',
    choices: ['gptq', 'gptq_v2'],
    help: 'zeros are stored less one (gptq) or as they are (gptq_v2)',
  },
} as const satisfies Record<string, Flag>;

/** Only what was given. */
export function gptqParameters(options: Options): GptqParameters {
  const given = {
    bits: options.number('bits'),
    group_size: options.number('group-size'),
    desc_act: options.toggle('desc-act'),
    sym: options.toggle('sym'),
    checkpoint_format: options.text('checkpoint-format'),
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
}
