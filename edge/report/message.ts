/** Message: rows of one account's ledger on their way to the reporting copy. Plain JSON. */
import type { Entry } from '../ledger/storage.ts';

/** A row with the longest names is under 3 kB of the 128 kB that a queue's message may have. */
export const ROWS_PER_MESSAGE = 40;

/** A ledger's row with the column names of the reporting table; `cost` is pico-USD as text. */
export interface ReportRow {
  seq: number;
  job_id: string;
  key_id: string;
  user: string | null;
  created_ms: number;
  settled_ms: number;
  model: string;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  cost: string;
  tariff: string;
  status: string;
  backend: string | null;
}

export interface ReportMessage {
  accountId: string;
  rows: ReportRow[];
}

export function reportRow(entry: Entry): ReportRow {
  return {
    seq: entry.seq,
    job_id: entry.jobId,
    key_id: entry.keyId,
    user: entry.user,
    created_ms: entry.createdMs,
    settled_ms: entry.settledMs,
    model: entry.model,
    prompt_tokens: entry.promptTokens,
    cached_tokens: entry.cachedTokens,
    completion_tokens: entry.completionTokens,
    cost: entry.costPico.toString(),
    tariff: JSON.stringify(entry.tariff),
    status: entry.status,
    backend: entry.backend,
  };
}
