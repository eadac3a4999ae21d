/** Env: the Worker's bindings, and the settings read from its variables, checked. */
import { NibbleError } from '../core/errors.ts';
import { MAX_SHARDS } from '../core/protocol.ts';
import type { CatalogObject } from './catalog/object.ts';
import type { DirectoryObject } from './directory/object.ts';
import type { FallbackObject } from './fallback/object.ts';
import type { AccountObject } from './ledger/object.ts';
import type { Tariff } from './ledger/price.ts';
import { MAX_PRICE_MICRO_USD_PER_MTOK } from './ledger/price.ts';
import type { QueueObject } from './queue/object.ts';
import type { ReportMessage } from './report/message.ts';

export interface Env {
  ACCOUNT: DurableObjectNamespace<AccountObject>;
  QUEUE: DurableObjectNamespace<QueueObject>;
  CATALOG: DurableObjectNamespace<CatalogObject>;
  /** Of the script in edge/fallback. Without it no model may have a fallback. */
  FALLBACK?: DurableObjectNamespace<FallbackObject>;
  DIRECTORY: DurableObjectNamespace<DirectoryObject>;
  /** Rows on their way to REPORTS. Without both there is no reporting copy. */
  USAGE_QUEUE?: Queue<ReportMessage>;
  REPORTS?: D1Database;
  /** Secret. Without it nothing is told to Stripe. */
  STRIPE_API_KEY?: string;
  /** Another address of Stripe's API, for tests. */
  STRIPE_API_BASE?: string;
  /** Secret. JSON, version → 64 hex digits; two versions while rotating. */
  KEY_SECRETS?: string;
  /** Secret. The root credential of /admin/*. */
  ADMIN_KEY?: string;
  DEFAULT_MODEL?: string;
  /** Integers; text when they come from a command line. */
  DEFAULT_PROMPT_MICRO_USD_PER_MTOK: number | string;
  DEFAULT_COMPLETION_MICRO_USD_PER_MTOK: number | string;
  QUEUE_TIMEOUT_MS: number | string;
  QUEUE_DEPTH: number | string;
  QUEUE_SHARDS: number | string;
}

export function queueTimeoutMs(env: Env): number {
  return integer('QUEUE_TIMEOUT_MS', env.QUEUE_TIMEOUT_MS, 1, 3_600_000);
}

export function queueDepth(env: Env): number {
  return integer('QUEUE_DEPTH', env.QUEUE_DEPTH, 0, 100_000);
}

/** Queue objects of each model. */
export function queueShards(env: Env): number {
  return integer('QUEUE_SHARDS', env.QUEUE_SHARDS, 1, MAX_SHARDS);
}

/** The price of models that have none of their own. */
export function defaultTariff(env: Env): Tariff {
  const price = (name: 'DEFAULT_PROMPT_MICRO_USD_PER_MTOK' | 'DEFAULT_COMPLETION_MICRO_USD_PER_MTOK') =>
    integer(name, env[name], 0, MAX_PRICE_MICRO_USD_PER_MTOK);
  return {
    promptMicroUsdPerMtok: price('DEFAULT_PROMPT_MICRO_USD_PER_MTOK'),
    completionMicroUsdPerMtok: price('DEFAULT_COMPLETION_MICRO_USD_PER_MTOK'),
  };
}

/** Throws `not_configured` when a variable is not what it must be, before a request depends on it. */
export function checkVariables(env: Env): void {
  queueTimeoutMs(env);
  queueDepth(env);
  queueShards(env);
  defaultTariff(env);
}

function integer(name: string, value: unknown, least: number, most: number): number {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  if (typeof number === 'number' && Number.isInteger(number) && number >= least && number <= most) return number;
  throw new NibbleError({
    code: 'not_configured',
    reason: `the variable ${name} must be an integer from ${least} to ${most}, not ${JSON.stringify(value)}`,
  });
}
