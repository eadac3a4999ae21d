/** Overview: what a queue's storage says of its jobs, without their prompts and without a token's text. */
import type { QueueJob } from '../api/books.ts';
import type { Grant } from '../ledger/grant.ts';
import type { EndEvent } from './job.ts';

type Row = Record<string, SqlStorageValue>;

/** Jobs after a place in the order of arrival, that place's order; ended ones for as long as they are kept. */
export function jobsAfter(sql: SqlStorage, after: number, limit: number): QueueJob[] {
  const query = `SELECT seq, id, grant, epoch, socket_id, ending, enqueued_ms, ended_ms,
    EXISTS (SELECT 1 FROM outbox WHERE job_id = job.id) AS unsettled FROM job WHERE seq > ? ORDER BY seq LIMIT ?`;
  return sql
    .exec<Row>(query, after, limit)
    .toArray()
    .map((row) => {
      const id = row.id as string;
      const end: EndEvent | null = row.ending === null ? null : JSON.parse(row.ending as string);
      return {
        seq: row.seq as number,
        jobId: id,
        accountId: (JSON.parse(row.grant as string) as Grant).accountId,
        status: statusOf(end, row.socket_id !== null),
        epoch: row.epoch as number,
        acceptedTokens: distinctPositions(sql, id),
        billed: end === null ? null : tokensOf(end),
        settled: end !== null && row.unsettled === 0,
        enqueuedMs: row.enqueued_ms as number,
        endedMs: row.ended_ms as number | null,
      };
    });
}

/** Positions that the job's chunks cover: one that two chunks had would count once, and one that none has not at all. */
function distinctPositions(sql: SqlStorage, jobId: string): number {
  const query = 'SELECT first, count FROM chunk WHERE job_id = ? ORDER BY first';
  let covered = 0;
  let end = 0;
  for (const { first, count } of sql.exec<{ first: number; count: number }>(query, jobId)) {
    covered += Math.max(0, first + count - Math.max(first, end));
    end = Math.max(end, first + count);
  }
  return covered;
}

function statusOf(end: EndEvent | null, leased: boolean): QueueJob['status'] {
  if (end === null) return leased ? 'leased' : 'waiting';
  return end.type === 'finished' ? 'completed' : 'failed';
}

function tokensOf({ usage: { promptTokens, cachedTokens, completionTokens } }: EndEvent) {
  return { promptTokens, cachedTokens, completionTokens };
}
