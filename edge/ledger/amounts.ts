/** Amounts: budgets and spending as JSON, their pico-USD as text. */
import type { Budget } from '../api/accounts.ts';
import type { Spending } from './budget.ts';
import { NOTHING_SPENT } from './budget.ts';

export function budgetToJson(budget: Budget | null): string | null {
  return budget === null ? null : JSON.stringify(budget, bigintsAsText);
}

export function budgetOfJson(json: string | null): Budget | null {
  if (json === null) return null;
  const { hardPico, softPico, reset } = JSON.parse(json);
  return { hardPico: bigintOf(hardPico), softPico: bigintOf(softPico), reset };
}

export function spendingToJson(spending: Spending): string {
  return JSON.stringify(spending, bigintsAsText);
}

export function spendingOfJson(json: string | null): Spending {
  if (json === null) return NOTHING_SPENT;
  const { slots, reservedPico, told } = JSON.parse(json);
  return {
    slots: slots.map(({ fromMs, pico }: { fromMs: number; pico: string }) => ({ fromMs, pico: BigInt(pico) })),
    reservedPico: BigInt(reservedPico),
    told,
  };
}

function bigintsAsText(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

function bigintOf(text: string | null): bigint | null {
  return text === null ? null : BigInt(text);
}
