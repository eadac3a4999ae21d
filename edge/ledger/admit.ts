/**
 * Admit: every limit, credit and budget of one request in one decision, and what its end gives back. Pure: the account, the key's line and
 * `now` in, both after it out. Nothing is taken from one purse when another refuses.
 */
import type { Failure } from '../../core/errors.ts';
import type { Budget, KeyLimits, Limits } from '../api/accounts.ts';
import type { Spending } from './budget.ts';
import { NOTHING_SPENT, reserve, spend } from './budget.ts';
import type { LineState } from './key-storage.ts';
import type { Meter } from './limits.ts';
import { fullBuckets, giveBack, narrowed, refill, take } from './limits.ts';
import type { Account } from './storage.ts';

/** What a key's line is held to beside its account. */
export interface Line {
  limits: KeyLimits | null;
  budget: Budget | null;
  state: LineState;
}

export interface Asked {
  tokens: number;
  pico: bigint;
  /** Admitted and not ended: of the account, and of the key's line. */
  active: { account: number; line: number };
}

/** Something that the account's owner wants to be told about, once a window. */
export interface News {
  type: 'budget.threshold' | 'budget.exceeded';
  of: Purse;
}
export type Purse = 'credit' | 'account' | 'key';

export type Decision =
  | { kind: 'admitted'; account: Account; state: LineState | null }
  /** With news, account and state are to be kept: they remember that it was told. */
  | { kind: 'refused'; failure: Failure; account: Account; state: LineState | null; news: News[] };

export function decide(account: Account, line: Line, asked: Asked, nowMs: number): Decision {
  const ofLine = line.limits === null ? null : narrowed(line.limits, account.limits);
  const taken = take(account.buckets, account.limits, asked.active.account, asked.tokens, nowMs);
  const takenOfLine =
    ofLine === null ? null : take(bucketsOf(line.state, ofLine, nowMs), ofLine, asked.active.line, asked.tokens, nowMs);
  for (const outcome of [taken, takenOfLine])
    if (outcome?.kind === 'refused') {
      const { limit, retryAfterS } = outcome;
      const failure: Failure = { code: 'rate_limited', limit, retryAfterS };
      return { kind: 'refused', failure, account, state: null, news: [] };
    }
  if (taken.kind === 'refused' || takenOfLine?.kind === 'refused') throw new Error('a refusal was passed over');

  const refused = (
    of: Purse,
    availablePico: bigint,
    told: boolean,
    after: { account?: Account; state?: LineState },
  ): Decision => ({
    kind: 'refused',
    failure: {
      code: 'budget_exceeded',
      of,
      requiredPicoUsd: asked.pico.toString(),
      availablePicoUsd: availablePico.toString(),
    },
    account: after.account ?? account,
    state: after.state ?? null,
    news: told ? [] : [{ type: 'budget.exceeded', of }],
  });
  const credit = account.creditPico - account.spentPico - account.reservedPico;
  if (account.billing === 'prepaid' && credit < asked.pico)
    return refused('credit', credit, account.creditTold, { account: { ...account, creditTold: true } });
  const ofAccount = reserveIn(account.budget, account.spending, asked.pico, nowMs);
  if (ofAccount.kind === 'refused')
    return refused('account', ofAccount.availablePico, !ofAccount.news, {
      account: { ...account, spending: ofAccount.spending },
    });
  const ofKey = reserveIn(line.budget, line.state.spending, asked.pico, nowMs);
  if (ofKey.kind === 'refused')
    return refused('key', ofKey.availablePico, !ofKey.news, { state: { ...line.state, spending: ofKey.spending } });
  return {
    kind: 'admitted',
    account: {
      ...account,
      reservedPico: account.reservedPico + asked.pico,
      buckets: taken.buckets,
      spending: ofAccount.spending,
    },
    state: hasState(line) ? { buckets: takenOfLine?.buckets ?? null, spending: ofKey.spending } : null,
  };
}

/** What an ended request leaves: its cost is spent, the rest of its reservation and its unused tokens come back. */
export function close(
  account: Account,
  line: Line,
  reservation: { pico: bigint; tokens: number },
  ended: { cost: bigint; tokens: number },
  nowMs: number,
): { account: Account; state: LineState | null; news: News[] } {
  const { cost } = ended;
  if (cost > reservation.pico) throw new Error(`${cost} pico-USD were spent of a reservation of ${reservation.pico}`);
  const unused = Math.max(0, reservation.tokens - ended.tokens);
  const ofAccount = spendIn(account.budget, account.spending, reservation.pico, cost, nowMs);
  const ofKey = spendIn(line.budget, line.state.spending, reservation.pico, cost, nowMs);
  const news: News[] = [];
  if (ofAccount.news) news.push({ type: 'budget.threshold', of: 'account' });
  if (ofKey.news) news.push({ type: 'budget.threshold', of: 'key' });
  const limits = line.limits === null ? null : narrowed(line.limits, account.limits);
  return {
    account: {
      ...account,
      spentPico: account.spentPico + cost,
      reservedPico: account.reservedPico - reservation.pico,
      buckets: giveBack(account.buckets, account.limits, unused, nowMs),
      spending: ofAccount.spending,
    },
    state: hasState(line)
      ? {
          buckets: limits === null ? null : giveBack(bucketsOf(line.state, limits, nowMs), limits, unused, nowMs),
          spending: ofKey.spending,
        }
      : null,
    news,
  };
}

/** The meters that a request of this key is held to, as they stand now. */
export function metersOf(account: Account, line: Line, nowMs: number): [Meter, ...Meter[]] {
  const ofAccount = { buckets: refill(account.buckets, account.limits, nowMs), limits: account.limits };
  if (line.limits === null) return [ofAccount];
  const limits = narrowed(line.limits, account.limits);
  return [ofAccount, { buckets: refill(bucketsOf(line.state, limits, nowMs), limits, nowMs), limits }];
}

function hasState({ limits, budget }: Line): boolean {
  return limits !== null || budget !== null;
}

function bucketsOf(state: LineState, limits: Limits, nowMs: number) {
  return state.buckets ?? fullBuckets(limits, nowMs);
}

/** Without a budget nothing is counted. */
function reserveIn(budget: Budget | null, spending: Spending, pico: bigint, nowMs: number) {
  return budget === null
    ? ({ kind: 'reserved', spending: NOTHING_SPENT } as const)
    : reserve(budget, spending, pico, nowMs);
}

function spendIn(budget: Budget | null, spending: Spending, reserved: bigint, cost: bigint, nowMs: number) {
  return budget === null ? { spending: NOTHING_SPENT, news: false } : spend(budget, spending, reserved, cost, nowMs);
}
