/** Chunks: a job's accepted tokens in storage, in few rows, and whole from any place. */

import { runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { expect, test } from 'vitest';
import type { TokenOut } from '../../../core/protocol.ts';
import type { Grant } from '../../../edge/ledger/grant.ts';
import type { LiveJob } from '../../../edge/queue/job.ts';
import { newJob } from '../../../edge/queue/job.ts';
import { QueueStore } from '../../../edge/queue/store.ts';

const GRANT: Grant = {
  jobId: 'job-1',
  accountId: 'account',
  keyId: 'key',
  model: 'm',
  createdMs: 0,
  expiresMs: 0,
  tariff: { promptMicroUsdPerMtok: 0, completionMicroUsdPerMtok: 0 },
  reservedPicoUsd: '0',
  promptTokenLimit: 1,
  completionTokenLimit: 10_000,
  keepUntilMs: null,
};

const token = (place: number, text: string): TokenOut => ({ id: place, logprob: -0.5, text, special: false, top: [] });

/** Stores `total` tokens in checkpoints of `atOnce`. */
function stored(store: QueueStore, text: string, total: number, atOnce: number): LiveJob {
  const job = newJob(GRANT, store.insert(GRANT, '{}', 0), 0);
  for (let from = 0; from < total; from += atOnce) {
    const count = Math.min(atOnce, total - from);
    job.tail = Array.from({ length: count }, (_, at) => token(from + at, text));
    store.checkpoint(job);
  }
  return job;
}

async function inQueue<T>(name: string, run: (store: QueueStore, sql: SqlStorage) => T): Promise<T> {
  return runInDurableObject(env.QUEUE.getByName(name), (_, { storage }) => run(new QueueStore(storage), storage.sql));
}

test('500 tokens in eight checkpoints are one row', async () => {
  const rows = await inQueue('chunks-one', (store, sql) => {
    stored(store, 'word ', 500, 64);
    return sql.exec('SELECT first, count FROM chunk').toArray();
  });
  expect(rows).toEqual([{ first: 0, count: 500 }]);
});

test('long answers, and tokens of several bytes, begin further rows; none is above 64 kB', async () => {
  const text = 'x, "quoted" \\ 日本語 😀';
  const seen = await inQueue('chunks-many', (store, sql) => {
    const job = stored(store, text, 2000, 64);
    const sizes = sql.exec<{ bytes: number }>('SELECT octet_length(tokens) AS bytes FROM chunk').toArray();
    const rests: [number, number, number][] = [];
    let place = 0;
    while (place < 2000) {
      const tokens = store.tokensFrom(job.id, place);
      rests.push([place, tokens[0]!.id, tokens.at(-1)!.id]);
      place += tokens.length;
    }
    const middle = store.tokensFrom(job.id, 700);
    return {
      sizes,
      rests,
      ids: store.tokenIds(job.id),
      middle: [middle[0]!.id, middle[0]!.text],
      live: store.find(job.id, 0)!.stored,
    };
  });
  expect(seen.sizes.length).toBeGreaterThan(1);
  expect(seen.sizes.length).toBeLessThan(6);
  for (const { bytes } of seen.sizes) expect(bytes).toBeLessThanOrEqual(64 * 1024);
  for (const [place, first] of seen.rests) expect(first).toBe(place);
  expect(seen.rests.at(-1)![2]).toBe(1999);
  expect(seen.ids).toEqual(Array.from({ length: 2000 }, (_, id) => id));
  expect(seen.middle).toEqual([700, text]);
  expect(seen.live).toBe(2000);
});

test('a checkpoint above the size of a row’s share is a row of its own', async () => {
  const rows = await inQueue('chunks-large', (store, sql) => {
    stored(store, 'y'.repeat(1500), 96, 32);
    return sql.exec('SELECT first, count FROM chunk ORDER BY first').toArray();
  });
  expect(rows).toEqual([
    { first: 0, count: 32 },
    { first: 32, count: 32 },
    { first: 64, count: 32 },
  ]);
});
