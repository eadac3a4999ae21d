/** Books: a queue's jobs, an account's ledger and its copy, as a reconciliation reads them. No prompts and no text. */

/** A job that a queue object still has. Accepted tokens are counted position by position, over what reached its storage. */
export interface QueueJob {
  /** Its place in the queue's order of arrival. */
  seq: number;
  jobId: string;
  accountId: string;
  status: 'waiting' | 'leased' | 'completed' | 'failed';
  /** Leases so far. */
  epoch: number;
  acceptedTokens: number;
  /** What its settlement says; null while it lives. */
  billed: { promptTokens: number; cachedTokens: number; completionTokens: number } | null;
  /** Whether the ledger has acknowledged it. An acknowledgement is noted with the next write, so a quiet queue may lag. */
  settled: boolean;
  enqueuedMs: number;
  endedMs: number | null;
}

export interface QueuePage {
  jobs: QueueJob[];
  /** Queue objects of the model: its jobs are spread over so many shards. */
  shards: number;
}

/** A row of the ledger, released reservations too. */
export interface LedgerRow {
  seq: number;
  jobId: string;
  keyId: string;
  model: string;
  status: 'completed' | 'cancelled' | 'failed' | 'released';
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  costPico: bigint;
  backend: string | null;
  createdMs: number;
  settledMs: number;
}

/** Admitted and not ended. */
export interface OpenReservation {
  jobId: string;
  queue: string;
  pico: bigint;
  createdMs: number;
  /** When the ledger asks the queue about it. */
  checkMs: number;
}

export interface LedgerPage {
  rows: LedgerRow[];
  reservations: OpenReservation[];
}

export interface Page {
  /** What comes after this place. */
  after: number;
  limit: number;
}
