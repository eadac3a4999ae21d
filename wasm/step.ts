/** Step: a batch checked and copied into the kernels' memory. The kernels trust every index, so all are checked here. */

import { NibbleError } from '../core/errors.ts';
import type { Batch, KvShape } from '../core/model/backend.ts';
import type { KernelMemory } from './memory.ts';
import { expectLength } from './tensors.ts';

export interface PlacedBatch {
  source: Batch;
  tokens: number;
  /** Largest position + 1. */
  contextTokens: number;
  // Addresses, each [tokens] i32, pageTables [sequences, maxPages] i32.
  positions: number;
  slots: number;
  sequenceOf: number;
  pageTables: number;
}

/** Throws `internal` when the batch does not fit `shape` (null: no pages were allocated, so nothing may attend). */
export function placeBatch(memory: KernelMemory, batch: Batch, shape: KvShape | null): PlacedBatch {
  const tokens = batch.tokenIds.length;
  expectLength('batch', 'positions', batch.positions.length, tokens);
  expectLength('batch', 'slots', batch.slots.length, tokens);
  expectLength('batch', 'sequenceOf', batch.sequenceOf.length, tokens);
  if (shape !== null) for (let token = 0; token < tokens; token++) checkToken(batch, shape, token);
  const place = (values: Int32Array) => {
    const address = memory.scratch(values.byteLength);
    memory.i32(address, values.length).set(values);
    return address;
  };
  return {
    source: batch,
    tokens,
    contextTokens: batch.positions.reduce((most, position) => Math.max(most, position + 1), 0),
    positions: place(batch.positions),
    slots: place(batch.slots),
    sequenceOf: place(batch.sequenceOf),
    pageTables: place(batch.pageTables),
  };
}

function checkToken(
  { positions, slots, sequenceOf, pageTables, maxPages }: Batch,
  shape: KvShape,
  token: number,
): void {
  const position = positions[token]!;
  const slot = slots[token]!;
  const sequence = sequenceOf[token]!;
  const broken = (rule: string) =>
    new NibbleError({
      code: 'internal',
      reason: `batch token ${token} (position ${position}, slot ${slot}, sequence ${sequence}): ${rule}`,
    });
  if (position < 0 || position >= maxPages * shape.pageTokens)
    throw broken(`position outside ${maxPages} pages of ${shape.pageTokens} tokens`);
  if (slot < 0 || slot >= shape.pages * shape.pageTokens)
    throw broken(`slot outside ${shape.pages} pages of ${shape.pageTokens} tokens`);
  if (sequence < 0 || (sequence + 1) * maxPages > pageTables.length)
    throw broken(`no such row in page tables of ${pageTables.length} entries`);
  for (let place = 0; place * shape.pageTokens <= position; place++) {
    const page = pageTables[sequence * maxPages + place]!;
    if (page < 0 || page >= shape.pages) throw broken(`page ${page} of ${shape.pages}`);
  }
}
