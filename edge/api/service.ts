/** Service: the one door between the HTTP surfaces and the world behind them (the edge's objects, or a standalone worker). */
import type { Failure } from '../../core/errors.ts';
import type { FinishReason, Job, ModelCard, TokenOut } from '../../core/protocol.ts';

export type Scope = 'client' | 'admin' | 'worker';

/** Who asks: what a checked key says. The account's object checks the rest at admission. */
export interface Caller {
  accountId: string;
  keyId: string;
  /** SHA-256 of the key's secret, hex; compared by the account's object. */
  secretHash: string;
}

/** What a surface makes of a request's body; the service adds id, model and reservation. `model: null` is the default model. */
export type JobRequest = Omit<Job, 'id' | 'model' | 'promptTokenLimit'> & { model: string | null };

export interface Usage {
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  /** 10⁻¹² USD, an integer. */
  costPicoUsd: number;
}

/** A job's life as its readers see it, in order: started, tokens*, then exactly one of finished or failed. `waiting` may come at any time. */
export type JobEvent =
  /** Nothing new; sent at least every 15 s so that proxies keep the stream. */
  | { type: 'waiting' }
  | { type: 'started'; backend: string; promptTokens: number; cachedTokens: number }
  | { type: 'tokens'; from: number; tokens: TokenOut[] }
  /** `text`: what was held back until now. */
  | { type: 'finished'; reason: FinishReason; text: string; usage: Usage; backend: string }
  | { type: 'failed'; failure: Failure; usage: Usage };

export interface Submission {
  jobId: string;
  /** The id under which the model is served. */
  model: string;
  createdS: number;
  /** Remaining limits, ready as HTTP headers (x-ratelimit-…). */
  headers: Record<string, string>;
  /** Cancelling the reader cancels the job, unless it carries an idempotency key. */
  events: ReadableStream<JobEvent>;
}

export interface UsageRow {
  requestId: string;
  createdS: number;
  model: string;
  usage: Usage;
  status: 'completed' | 'cancelled' | 'failed';
  backend: string | null;
}

export interface AccountState {
  accountId: string;
  name: string;
  /** 10⁻¹² USD, decimal integers as text: totals outgrow a double. */
  creditPicoUsd: string;
  spentPicoUsd: string;
  reservedPicoUsd: string;
}

export type Outcome<Value> = { ok: true; value: Value } | { ok: false; failure: Failure };

/** An outcome that also says, as HTTP headers, what is left of the account's limits: a refusal of a key or a model has none. */
export type Metered<Value> =
  | { ok: true; value: Value }
  | { ok: false; failure: Failure; headers: Record<string, string> };

export interface Service {
  /** The key in an Authorization header, its tag checked without any storage. */
  authenticate(authorization: string | undefined): Promise<Outcome<Caller>>;
  /** Admits, reserves and queues. The signal is the client's: its abort cancels the job. */
  submit(caller: Caller, request: JobRequest, signal: AbortSignal): Promise<Metered<Submission>>;
  /** Every model that was ever registered and not removed, the default first. Any valid key may ask. */
  models(caller: Caller): Promise<Outcome<ModelCard[]>>;
  /** Newest first. */
  usage(caller: Caller, query: { limit: number; requestId: string | null }): Promise<Outcome<UsageRow[]>>;
  account(caller: Caller): Promise<Outcome<AccountState>>;
}
