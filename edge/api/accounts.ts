/** Accounts: what an account, its keys and its usage are, as the surfaces and the ledger both see them. Amounts are bigints of 10⁻¹² USD. */
import type { Scope, Usage } from './service.ts';

export interface Limits {
  requestsPerMin: number;
  tokensPerMin: number;
  concurrency: number;
}

/** Limits of one key; null: only the account's holds. */
export type KeyLimits = { [Name in keyof Limits]: number | null };

export type Reset =
  | { kind: 'never' }
  /** At midnight UTC: of every day, of Monday, of the first of a month. */
  | { kind: 'calendar'; period: 'day' | 'week' | 'month' }
  /** Over the last so many seconds, forgotten in sixtieths of the window, so a little late rather than early. A multiple of 60. */
  | { kind: 'rolling'; windowS: number };

export interface Budget {
  /** What reservations never pass; null: no such limit. */
  hardPico: bigint | null;
  /** What is only told about. */
  softPico: bigint | null;
  reset: Reset;
}

export interface BudgetState {
  budget: Budget;
  spentPico: bigint;
  reservedPico: bigint;
  /** When the window next forgets something. */
  resetsMs: number | null;
}

/** Prepaid: never beyond its credit. Postpaid: invoiced later, held by its budget alone. */
export type Billing = 'prepaid' | 'postpaid';

/** What an operator decides about an account. */
export interface AccountSettings {
  name: string;
  billing: Billing;
  limits: Limits;
  budget: Budget | null;
  /** Usage is reported to Stripe's meters for this customer; null: it is not. */
  stripeCustomer: string | null;
}

export interface AccountView extends AccountSettings {
  accountId: string;
  creditPico: bigint;
  spentPico: bigint;
  reservedPico: bigint;
  budgetState: BudgetState | null;
}

/** What is decided about a key. */
export interface KeySettings {
  name: string;
  scopes: Scope[];
  /** Null: every model. For a worker: the models it may serve. */
  models: string[] | null;
  /** Addresses and CIDR blocks that it may be used from; null: any. */
  ips: string[] | null;
  expiresMs: number | null;
  limits: KeyLimits | null;
  budget: Budget | null;
}

export interface KeyState extends KeySettings {
  keyId: string;
  /** Its first characters and its last four, to tell keys apart by. */
  prefix: string;
  lastFour: string;
  /** The first key of its rotation. */
  line: string;
  createdMs: number;
  revokedMs: number | null;
}

export interface KeyView extends KeyState {
  budgetState: BudgetState | null;
}

/** Who decides: the operator, or an account's own administrator. */
export type Actor = { kind: 'root' } | { kind: 'key'; keyId: string };

export interface Credit {
  reference: string;
  pico: bigint;
  note: string | null;
  actor: string;
  createdMs: number;
}

/** An entry with its place in its log, by which a list goes on. */
export type Placed<Value> = Value & { seq: number };

/** The newest entries of a log, or those before a place in it. */
export interface LogPage {
  limit: number;
  before: number | null;
}

export interface AuditEntry {
  createdMs: number;
  /** "root", the id of an account's admin key, or "ledger". */
  actor: string;
  action: string;
  target: string;
  /** What was decided; never a secret. */
  detail: unknown;
}

export type PriceVersion = {
  /** Micro-USD per million tokens. */
  promptMicroUsdPerMtok: number;
  completionMicroUsdPerMtok: number;
  /** Absent: as other prompt tokens. */
  cachedPromptMicroUsdPerMtok?: number;
  /** Micro-USD, once for a request. Absent: nothing. */
  requestMicroUsd?: number;
  effectiveFromMs: number;
};

export interface RowQuery {
  limit: number;
  requestId: string | null;
  /** Rows older than the one of this number; null: from the newest. */
  before: number | null;
  fromMs: number | null;
  toMs: number | null;
}

export interface UsageRow {
  /** Its place in the account's ledger. */
  seq: number;
  requestId: string;
  keyId: string;
  user: string | null;
  createdS: number;
  model: string;
  usage: Usage;
  status: 'completed' | 'cancelled' | 'failed';
  backend: string | null;
}

export type GroupBy = 'key' | 'model' | 'user';

export interface BucketQuery {
  /** Where bucket 0 begins: at or before `fromMs`. */
  originMs: number;
  fromMs: number;
  toMs: number;
  widthMs: number;
  groupBy: readonly GroupBy[];
  keyIds: readonly string[] | null;
  models: readonly string[] | null;
  users: readonly string[] | null;
}

/** One group's sum in one bucket, counted from `originMs`. A field that is not grouped by is null. */
export interface BucketRow {
  bucket: number;
  keyId: string | null;
  model: string | null;
  user: string | null;
  numRequests: number;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  costPico: bigint;
}

export const WEBHOOK_EVENTS = ['budget.threshold', 'budget.exceeded', 'key.revoked'] as const;
export type WebhookEvent = (typeof WEBHOOK_EVENTS)[number];

export interface Webhook {
  id: string;
  url: string;
  events: WebhookEvent[];
  createdMs: number;
}

export interface Delivery {
  eventId: string;
  webhookId: string;
  type: string;
  createdMs: number;
  attempts: number;
  /** When it is tried again; null: never. */
  nextMs: number | null;
  /** The last answer's status, or why there was none. */
  outcome: string | null;
}
