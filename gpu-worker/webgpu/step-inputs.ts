/** StepInputs: a batch's integers on the device, uploaded once for all layers. */
import type { Batch } from '../../core/model/backend.ts';
import type { Space } from './row-ops.ts';

/** Tokens of one sequence that lie one after another in the batch. */
export interface Run {
  /** Row of the first token. */
  begin: number;
  tokens: number;
  /** Position of the first token in its sequence. */
  position: number;
  sequence: number;
}

export class StepInputs {
  readonly batch: Batch;
  readonly tokens: number;
  /** [tokens] i32 */
  readonly slots: GPUBuffer;
  /** [sequences, maxPages] i32 */
  readonly pageTables: GPUBuffer;
  /** The batch as runs, in the order of its rows. */
  readonly runs: readonly Run[];

  constructor({ activations }: Space, batch: Batch) {
    this.batch = batch;
    this.tokens = batch.positions.length;
    this.slots = activations.upload(batch.slots);
    this.pageTables = activations.upload(batch.pageTables);
    this.runs = runsOf(batch);
  }
}

function runsOf({ sequenceOf, positions }: Batch): Run[] {
  const runs: Run[] = [];
  sequenceOf.forEach((sequence, row) => {
    const last = runs[runs.length - 1];
    if (last !== undefined && last.sequence === sequence && last.position + last.tokens === positions[row])
      last.tokens++;
    else runs.push({ begin: row, tokens: 1, position: positions[row]!, sequence });
  });
  return runs;
}
