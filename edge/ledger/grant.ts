/** Grant: what the ledger, the edge and the queue tell each other about one request's money. Plain values, sent between objects. */
import type { Failure } from '../../core/errors.ts';
import type { Scope, Usage } from '../api/service.ts';
import type { Limits } from './limits.ts';
import type { Tariff } from './price.ts';

/** How long after admission the queue takes the job. Normally it is there in milliseconds. */
export const GRANT_MS = 30_000;

export interface AdmitRequest {
  keyId: string;
  /** SHA-256 of the key's secret, hex. */
  secretHash: string;
  model: string;
  /** Name of the queue object that will get the job; the ledger asks it about reservations that nobody settled. */
  queue: string;
  tariff: Tariff;
  /** Upper bounds; the budget is reserved for both. */
  promptTokens: number;
  completionTokens: number;
}

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
}

/** A grant, and the limits that are left as headers. */
export interface Admitted {
  grant: Grant;
  headers: Record<string, string>;
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

/** A key as the account's object stores it; the secret itself is nowhere. */
export interface NewKey {
  keyId: string;
  secretHash: string;
  name: string;
  scopes: Scope[];
  /** null: every model. */
  models: string[] | null;
  expiresMs: number | null;
}

export interface KeyState extends Omit<NewKey, 'secretHash'> {
  createdMs: number;
  revokedMs: number | null;
}

export interface NewAccount {
  accountId: string;
  name: string;
  creditPicoUsd: string;
  limits: Limits;
}

/** Why a key may not do something, or null when it may. Pure: the row, the scope and the model in question, and `now`. */
export function refusalOf(
  key: { scopes: Scope[]; models: string[] | null; expiresMs: number | null; revokedMs: number | null },
  wanted: { scope: Scope | null; model: string | null },
  nowMs: number,
): Failure | null {
  if (key.revokedMs !== null || (key.expiresMs !== null && key.expiresMs <= nowMs)) return { code: 'invalid_key' };
  if (wanted.scope !== null && !key.scopes.includes(wanted.scope))
    return { code: 'scope_missing', scope: wanted.scope };
  if (wanted.model !== null && key.models !== null && !key.models.includes(wanted.model))
    return { code: 'model_forbidden', model: wanted.model };
  return null;
}
