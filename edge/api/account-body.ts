/** Account body: accounts, keys and budgets as JSON, read from requests and written into answers. Amounts are exact decimals as text. */
import { z } from '@hono/zod-openapi';
import type { AccountView, Budget, BudgetState, KeyView, Reset } from './accounts.ts';
import { decimalUsd, picoUsdOf } from './usd.ts';

/** Above it a bucket's units are not exact. */
const MAX_PER_MIN = 10_000_000_000;
const MAX_CONCURRENCY = 100_000;
/** Two leap years of minutes; and one minute, which a rolling window cuts into sixty seconds. */
const MAX_WINDOW_S = 366 * 86_400;
const SECONDS = { m: 60, h: 3600, d: 86_400 } as const;

export const name = z.string().min(1).max(200);
const perMin = z.int().min(0).max(MAX_PER_MIN);
const concurrency = z.int().min(0).max(MAX_CONCURRENCY);

/** A number is read by its shortest decimal form, so 0.1 is a tenth exactly. */
export const usd = z
  .union([z.string(), z.number()])
  .transform((amount, context) => {
    const pico = picoUsdOf(String(amount));
    if (pico !== null) return pico;
    context.addIssue('must be decimal dollars with at most 9 digits before the point and 12 after it, such as "5.25"');
    return z.NEVER;
  })
  .openapi({ type: 'string', example: '5.00' });

const reset = z
  .string()
  .transform((text, context): Reset => {
    if (text === 'never') return { kind: 'never' };
    if (text === 'day' || text === 'week' || text === 'month') return { kind: 'calendar', period: text };
    const match = /^([1-9]\d{0,6})([mhd])$/.exec(text);
    const windowS = match === null ? 0 : Number(match[1]) * SECONDS[match[2] as keyof typeof SECONDS];
    if (windowS >= 60 && windowS <= MAX_WINDOW_S) return { kind: 'rolling', windowS };
    context.addIssue('must be "never", "day", "week", "month" (UTC), or a rolling window such as "30m", "5h" or "30d"');
    return z.NEVER;
  })
  .openapi({ type: 'string', example: 'month' });

export const BudgetBody = z
  .strictObject({
    hard_usd: usd.nullable().default(null),
    soft_usd: usd.nullable().default(null),
    reset: reset.default({ kind: 'never' }),
  })
  .refine(({ hard_usd, soft_usd }) => hard_usd !== null || soft_usd !== null, 'give hard_usd, soft_usd or both')
  .transform(({ hard_usd, soft_usd, reset }): Budget => ({ hardPico: hard_usd, softPico: soft_usd, reset }));

export const AccountLimits = z
  .strictObject({ requests_per_min: perMin, tokens_per_min: perMin, concurrency })
  .partial()
  .transform(({ requests_per_min, tokens_per_min, concurrency }) => ({
    ...(requests_per_min !== undefined && { requestsPerMin: requests_per_min }),
    ...(tokens_per_min !== undefined && { tokensPerMin: tokens_per_min }),
    ...(concurrency !== undefined && { concurrency }),
  }));

/** Absent and null: only the account's limit holds. */
export const KeyLimitsBody = z
  .strictObject({
    requests_per_min: perMin.nullish(),
    tokens_per_min: perMin.nullish(),
    concurrency: concurrency.nullish(),
  })
  .transform(({ requests_per_min, tokens_per_min, concurrency }) => ({
    requestsPerMin: requests_per_min ?? null,
    tokensPerMin: tokens_per_min ?? null,
    concurrency: concurrency ?? null,
  }));

export function accountBody(account: AccountView) {
  const { limits, budgetState } = account;
  return {
    object: 'account' as const,
    id: account.accountId,
    name: account.name,
    billing: account.billing,
    credit_usd: decimalUsd(account.creditPico),
    spent_usd: decimalUsd(account.spentPico),
    reserved_usd: decimalUsd(account.reservedPico),
    limits: {
      requests_per_min: limits.requestsPerMin,
      tokens_per_min: limits.tokensPerMin,
      concurrency: limits.concurrency,
    },
    budget: budgetBody(budgetState),
    stripe_customer: account.stripeCustomer,
  };
}

export function keyBody(key: KeyView) {
  const { limits } = key;
  return {
    object: 'key' as const,
    id: key.keyId,
    name: key.name,
    redacted: `${key.prefix}…${key.lastFour}`,
    prefix: key.prefix,
    last_four: key.lastFour,
    scopes: key.scopes,
    models: key.models,
    allowed_ips: key.ips,
    limits:
      limits === null
        ? null
        : {
            requests_per_min: limits.requestsPerMin,
            tokens_per_min: limits.tokensPerMin,
            concurrency: limits.concurrency,
          },
    budget: budgetBody(key.budgetState),
    created: seconds(key.createdMs),
    expires_at: key.expiresMs === null ? null : seconds(key.expiresMs),
    revoked_at: key.revokedMs === null ? null : seconds(key.revokedMs),
  };
}

export function budgetBody(state: BudgetState | null) {
  if (state === null) return null;
  const { budget, spentPico, reservedPico, resetsMs } = state;
  const amount = (pico: bigint | null) => (pico === null ? null : decimalUsd(pico));
  return {
    hard_usd: amount(budget.hardPico),
    soft_usd: amount(budget.softPico),
    reset: resetText(budget.reset),
    spent_usd: decimalUsd(spentPico),
    reserved_usd: decimalUsd(reservedPico),
    resets_at: resetsMs === null ? null : seconds(resetsMs),
  };
}

function resetText(reset: Reset): string {
  switch (reset.kind) {
    case 'never':
      return 'never';
    case 'calendar':
      return reset.period;
    case 'rolling': {
      const unit = (['d', 'h', 'm'] as const).find((name) => reset.windowS % SECONDS[name] === 0)!;
      return `${reset.windowS / SECONDS[unit]}${unit}`;
    }
    default:
      return reset satisfies never;
  }
}

export function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}
