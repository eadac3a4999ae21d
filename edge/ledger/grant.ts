/** Grant: what the ledger, the edge and the queue tell each other about one request's money. Plain values, sent between objects. */
import type { Idempotency, Usage } from '../api/service.ts';
import type { Tariff } from './price.ts';

/** How long after admission the queue takes the job. Normally it is there in milliseconds. */
export const GRANT_MS = 30_000;

/** Who asks, as the account's object is told: the key, and where the request came from. */
export interface Presented {
  keyId: string;
  /** SHA-256 of the key's secret, hex. */
  secretHash: string;
  /** Null where it is not known; a key that is bound to addresses is then refused. */
  clientIp: string | null;
}

export interface AdmitRequest extends Presented {
  /** The job's, if it is admitted: 22 characters that nobody can guess. Asked again under it, the answer is the same grant. */
  jobId: string;
  model: string;
  /** Name of the queue object that will get the job; the ledger asks it about reservations that nobody settled. */
  queue: string;
  tariff: Tariff;
  /** Upper bounds; the budget is reserved for both. */
  promptTokens: number;
  completionTokens: number;
  /** OpenAI's `user`: whom of the customer's own users the usage belongs to. */
  user: string | null;
  idempotency: Idempotency | null;
}

/** What came of asking: a grant for a new job, or the job that the idempotency key stands for already. */
export type Admitted =
  | { kind: 'new'; jobId: string; grant: Grant }
  /** `ended`: it has its row in the ledger, so that it will not run again under this key. */
  | { kind: 'known'; jobId: string; queue: string; model: string; createdMs: number; ended: boolean };

export interface Grant {
  jobId: string;
  accountId: string;
  keyId: string;
  model: string;
  createdMs: number;
  /** The queue refuses the job after this. */
  expiresMs: number;
  tariff: Tariff;
  reservedPicoUsd: string;
  promptTokenLimit: number;
  completionTokenLimit: number;
  /** With an idempotency key: the job runs on when its client leaves, and its answer is kept until then. Null: it is cancelled then. */
  keepUntilMs: number | null;
}

export type JobStatus = 'completed' | 'cancelled' | 'failed';

/** How a job ended, from the queue. `usage` is what is billed: its cost is its tokens at the tariff. */
export interface SettleRequest {
  jobId: string;
  keyId: string;
  createdMs: number;
  model: string;
  tariff: Tariff;
  usage: Usage;
  status: JobStatus;
  backend: string | null;
}
