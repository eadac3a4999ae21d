/**
 * Budget: a hard limit that reservations never pass, a soft one that is only told about, and when both begin anew. Pure: integers of
 * 10⁻¹² USD and `now` in, values out. What holds at all times: spent in the window + reserved ≤ hard.
 */
import type { Budget, Reset } from '../api/accounts.ts';

export interface Spending {
  /** What was spent from `fromMs` on until the next slot; the oldest first. */
  slots: { fromMs: number; pico: bigint }[];
  /** Of requests that have not ended; it goes with them into whichever window they end in. */
  reservedPico: bigint;
  /** What has been told since the window began. */
  told: { soft: boolean; hard: boolean };
}

export const NOTHING_SPENT: Spending = { slots: [], reservedPico: 0n, told: { soft: false, hard: false } };

const SLOTS = 60;
const DAY_MS = 86_400_000;
/** 1970-01-01 was a Thursday: three days after a Monday. */
const MONDAY_MS = 4 * DAY_MS;

export function spentPico(spending: Spending): bigint {
  return spending.slots.reduce((sum, { pico }) => sum + pico, 0n);
}

/** The spending as it stands at `nowMs`: what the window has left behind is forgotten. A clock that went back forgets nothing. */
export function rolled(budget: Budget, spending: Spending, nowMs: number): Spending {
  const slots = spending.slots.filter(({ fromMs }) => !isPast(budget.reset, fromMs, nowMs));
  if (slots.length === spending.slots.length) return spending;
  const { softPico } = budget;
  const left = { ...spending, slots };
  return {
    ...left,
    told: { soft: spending.told.soft && softPico !== null && spentPico(left) >= softPico, hard: false },
  };
}

export type Reserved =
  | { kind: 'reserved'; spending: Spending }
  /** `news`: this is the first refusal since the window began. */
  | { kind: 'refused'; spending: Spending; availablePico: bigint; news: boolean };

export function reserve(budget: Budget, spending: Spending, pico: bigint, nowMs: number): Reserved {
  const now = rolled(budget, spending, nowMs);
  if (budget.hardPico === null)
    return { kind: 'reserved', spending: { ...now, reservedPico: now.reservedPico + pico } };
  const availablePico = budget.hardPico - spentPico(now) - now.reservedPico;
  if (pico <= availablePico) return { kind: 'reserved', spending: { ...now, reservedPico: now.reservedPico + pico } };
  const told = { ...now.told, hard: true };
  // A slot of nothing: the window that leaves it behind forgets that it was told.
  const slots = added(now.slots, slotStartMs(budget.reset, nowMs), 0n);
  return { kind: 'refused', spending: { ...now, slots, told }, availablePico, news: !now.told.hard };
}

/** Ends a reservation of `reserved` with a cost of at most that. `news`: the soft limit is reached for the first time since the window began. */
export function spend(
  budget: Budget,
  spending: Spending,
  reserved: bigint,
  cost: bigint,
  nowMs: number,
): { spending: Spending; news: boolean } {
  if (cost > reserved) throw new Error(`a cost of ${cost} pico-USD is above its reservation of ${reserved}`);
  const now = rolled(budget, spending, nowMs);
  const slots = cost === 0n ? now.slots : added(now.slots, slotStartMs(budget.reset, nowMs), cost);
  const after = { ...now, slots, reservedPico: now.reservedPico - reserved };
  const news = !now.told.soft && budget.softPico !== null && cost > 0n && spentPico(after) >= budget.softPico;
  return { spending: news ? { ...after, told: { ...after.told, soft: true } } : after, news };
}

/** The spending of what was booked, the oldest first, as if the budget had been there; nothing is told about. */
export function spendingOf(budget: Budget, booked: Iterable<{ costPico: bigint; settledMs: number }>): Spending {
  const quiet = { ...budget, softPico: null };
  let spending = NOTHING_SPENT;
  for (const { costPico, settledMs } of booked)
    spending = spend(quiet, { ...spending, reservedPico: costPico }, costPico, costPico, settledMs).spending;
  return spending;
}

/** When the window next forgets something; null: never. */
export function resetsMs(budget: Budget, spending: Spending, nowMs: number): number | null {
  const oldest = rolled(budget, spending, nowMs).slots.find(({ pico }) => pico > 0n);
  switch (budget.reset.kind) {
    case 'never':
      return null;
    case 'calendar':
      return nextStartMs(budget.reset.period, nowMs);
    case 'rolling':
      return oldest === undefined ? null : oldest.fromMs + slotMs(budget.reset) + budget.reset.windowS * 1000;
    default:
      return budget.reset satisfies never;
  }
}

function added(slots: Spending['slots'], fromMs: number, pico: bigint): Spending['slots'] {
  const last = slots.at(-1);
  // A clock that went back goes on in the newest slot.
  if (last === undefined || fromMs > last.fromMs) return [...slots, { fromMs, pico }];
  return [...slots.slice(0, -1), { fromMs: last.fromMs, pico: last.pico + pico }];
}

function slotStartMs(reset: Reset, nowMs: number): number {
  switch (reset.kind) {
    case 'never':
      return 0;
    case 'calendar':
      return startMs(reset.period, nowMs);
    case 'rolling':
      return nowMs - (nowMs % slotMs(reset));
    default:
      return reset satisfies never;
  }
}

function isPast(reset: Reset, fromMs: number, nowMs: number): boolean {
  switch (reset.kind) {
    case 'never':
      return false;
    case 'calendar':
      return fromMs < startMs(reset.period, nowMs);
    case 'rolling':
      return fromMs + slotMs(reset) + reset.windowS * 1000 <= nowMs;
    default:
      return reset satisfies never;
  }
}

/** A whole number: windows are multiples of 60 s. */
function slotMs(reset: { windowS: number }): number {
  return (reset.windowS * 1000) / SLOTS;
}

function startMs(period: 'day' | 'week' | 'month', nowMs: number): number {
  if (period === 'day') return nowMs - (nowMs % DAY_MS);
  if (period === 'week') return nowMs - ((nowMs + 7 * DAY_MS - MONDAY_MS) % (7 * DAY_MS));
  const date = new Date(nowMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth());
}

function nextStartMs(period: 'day' | 'week' | 'month', nowMs: number): number {
  if (period !== 'month') return startMs(period, nowMs) + (period === 'day' ? 1 : 7) * DAY_MS;
  const date = new Date(nowMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1);
}
