/** QuantizeFlags: the options of `nibble quantize`, and the solver's options from them and back. */
import type { Flag, Options } from '../command-line.ts';
import { usage } from '../command-line.ts';
import type { SolverOptions } from './solver-options.ts';

export const QUANTIZE_FLAGS = {
  bits: { kind: 'integer', choices: ['2', '3', '4', '8'], help: 'bits of a weight (4)' },
  groupsize: {
    kind: 'integer',
    synonyms: ['group-size'],
    minimum: -1,
    help: 'input channels per scale; -1: one group (128)',
  },
  'act-order': { kind: 'toggle', synonyms: ['desc-act'], help: 'channels with the strongest inputs first' },
  percdamp: { kind: 'number', help: "damping, of the Hessian's mean diagonal; grows when needed (0.01)" },
  sym: { kind: 'toggle', help: 'zero points in the middle (yes)' },
  'true-sequential': { kind: 'toggle', help: "a layer's linears see what those before them became" },
  'static-groups': {
    kind: 'toggle',
    help: "groups' scales are fixed before the sweep; with --act-order rows stay in order",
  },
  mse: { kind: 'toggle', help: 'search for scales that clip where that loses less' },
} as const satisfies Record<string, Flag>;

export const CALIBRATION_FLAGS = {
  dataset: {
    kind: 'text',
    value: 'wikitext2|ptb|c4|FILE',
    help: 'calibration data (wikitext2); JSON and JSONL: one text a sample, other files: random windows',
  },
  'dataset-dir': {
    kind: 'text',
    value: 'DIR',
    help: 'the only place to look for wikitext2, ptb and c4 (here, then the Hub)',
  },
  nsamples: { kind: 'integer', minimum: 1, help: 'calibration samples (128)' },
  seqlen: { kind: 'integer', minimum: 1, help: "tokens of a sample; at most the model's context (2048)" },
  seed: { kind: 'integer', minimum: 0, help: 'of the random windows (0)' },
} as const satisfies Record<string, Flag>;

export function solverOptions(options: Options): SolverOptions {
  const groupSize = options.number('groupsize') ?? 128;
  if (groupSize === 0) throw usage('--groupsize is 0; it is at least 1, or -1 for one group');
  const damping = options.number('percdamp') ?? 0.01;
  if (!(damping > 0 && damping < 1)) throw usage(`--percdamp is ${damping}; it must be above 0 and below 1`);
  return {
    bits: (options.number('bits') ?? 4) as SolverOptions['bits'],
    groupSize: groupSize === -1 ? null : groupSize,
    columnOrder: options.on('act-order') ? 'falling-activation' : 'natural',
    groups: options.on('static-groups') ? 'static' : 'running',
    zeros: options.toggle('sym') === false ? 'asymmetric' : 'symmetric',
    clipping: options.on('mse') ? 'mse' : 'none',
    damping,
  };
}

/** For the report, under the flags' names. */
export function settingsOf(
  solver: SolverOptions,
  { dataset, sequence, seed }: { dataset: string; sequence: 'whole-layer' | 'by-input'; seed: number },
): Record<string, string | number | boolean> {
  return {
    bits: solver.bits,
    groupsize: solver.groupSize ?? -1,
    'act-order': solver.columnOrder === 'falling-activation',
    sym: solver.zeros === 'symmetric',
    'static-groups': solver.groups === 'static',
    mse: solver.clipping === 'mse',
    percdamp: solver.damping,
    dataset,
    'true-sequential': sequence === 'by-input',
    seed,
  };
}
