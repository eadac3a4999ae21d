/** Service: the one door between the HTTP surfaces and the world behind them (the edge's objects, or a standalone worker). */
import type { Failure } from '../../core/errors.ts';
import type { FinishReason, Job, ModelCard, TokenOut } from '../../core/protocol.ts';
import type { AccountView, BucketQuery, BucketRow, RowQuery, UsageRow } from './accounts.ts';

export type Scope = 'client' | 'admin' | 'worker';

/** Who asks: what a checked key says. The account's object checks the rest at admission. */
export interface Caller {
  accountId: string;
  keyId: string;
  /** SHA-256 of the key's secret, hex; compared by the account's object. */
  secretHash: string;
  /** Null where it is not known. */
  clientIp: string | null;
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

/** A client's name for one request: however often it is sent, it is run once. */
export interface Idempotency {
  key: string;
  /** Of route and body; another one under the same key is a conflict. */
  bodyHash: string;
  /** Whether a key that stands for nothing yet may begin a job, or is refused: a client that resumes wants no second answer. */
  ifNew: 'run' | 'refuse';
}

export interface SubmitOptions {
  /** Whom the usage is kept under. */
  user: string | null;
  idempotency: Idempotency | null;
}

export interface Submission {
  jobId: string;
  /** The id under which the model is served. */
  model: string;
  createdS: number;
  /** The idempotency key stood for this job already: nothing was reserved, and the events come from its beginning. */
  replayed: boolean;
  /** Cancelling the reader cancels the job, unless it carries an idempotency key. */
  events: ReadableStream<JobEvent>;
}

export type Outcome<Value> = { ok: true; value: Value } | { ok: false; failure: Failure };

/** An outcome that also says, as HTTP headers (x-ratelimit-…), what is left of the caller's limits: a refusal of a key has none. */
export type Metered<Value> = Outcome<Value> & { headers: Record<string, string> };

export interface Service {
  /** The key in an Authorization header, its tag checked without any storage. */
  authenticate(authorization: string | undefined, clientIp: string | null): Promise<Outcome<Caller>>;
  /** Whether the key is still good for client routes; for answers that nothing else has checked it for. */
  authorize(caller: Caller): Promise<Metered<null>>;
  /** Admits, reserves and queues. The signal is the client's: its abort cancels the job, unless it carries an idempotency key. */
  submit(
    caller: Caller,
    request: JobRequest,
    signal: AbortSignal,
    options?: SubmitOptions,
  ): Promise<Metered<Submission>>;
  /** Every model that was ever registered and not removed and that the key may use, the default first. Any valid key may ask. */
  models(caller: Caller): Promise<Metered<ModelCard[]>>;
  /** Newest first. */
  usage(caller: Caller, query: RowQuery): Promise<Metered<UsageRow[]>>;
  usageBuckets(caller: Caller, query: BucketQuery): Promise<Metered<BucketRow[]>>;
  account(caller: Caller): Promise<Metered<AccountView>>;
}
