/** Budget: windows, and what no order of events can break. */
import { expect, test } from 'vitest';
import type { Budget, Reset } from '../../../edge/api/accounts.ts';
import type { Spending } from '../../../edge/ledger/budget.ts';
import { NOTHING_SPENT, reserve, resetsMs, rolled, spend, spentPico } from '../../../edge/ledger/budget.ts';
import { seeded } from './seeded.ts';

const DAY_MS = 86_400_000;
const budget = (reset: Reset, hardPico: bigint | null = 100n, softPico: bigint | null = null): Budget => ({
  hardPico,
  softPico,
  reset,
});
const calendar = (period: 'day' | 'week' | 'month') => budget({ kind: 'calendar', period });
const at = (iso: string) => Date.parse(iso);

function spent(under: Budget, spending: Spending, pico: bigint, nowMs: number): Spending {
  const reserved = reserve(under, spending, pico, nowMs);
  if (reserved.kind === 'refused') throw new Error(`refused with ${reserved.availablePico} left`);
  return spend(under, reserved.spending, pico, pico, nowMs).spending;
}

test.each([
  ['day', '2026-03-01T23:59:59.999Z', '2026-03-02T00:00:00Z'],
  ['week', '2026-03-01T23:59:59.999Z', '2026-03-02T00:00:00Z'],
  ['week', '2026-03-02T00:00:00Z', '2026-03-09T00:00:00Z'],
  ['month', '2026-02-28T23:59:59.999Z', '2026-03-01T00:00:00Z'],
  ['month', '2028-02-01T00:00:00Z', '2028-03-01T00:00:00Z'],
  ['month', '2026-12-31T12:00:00Z', '2027-01-01T00:00:00Z'],
] as const)('a %s that runs at %s ends at %s', (period, nowIso, endIso) => {
  const under = calendar(period);
  const full = spent(under, NOTHING_SPENT, 100n, at(nowIso));
  expect(resetsMs(under, full, at(nowIso))).toBe(at(endIso));
  expect(reserve(under, full, 1n, at(endIso) - 1)).toMatchObject({ kind: 'refused', availablePico: 0n });
  expect(reserve(under, full, 100n, at(endIso)).kind).toBe('reserved');
});

test('a rolling window forgets a spending after its length and at most a sixtieth more', () => {
  const under = budget({ kind: 'rolling', windowS: 3600 });
  const full = spent(under, NOTHING_SPENT, 100n, 90_500);
  expect(reserve(under, full, 1n, 90_500 + 3_600_000).kind).toBe('refused');
  expect(reserve(under, full, 1n, 90_500 + 3_660_000).kind).toBe('reserved');
  expect(resetsMs(under, full, 90_500)).toBe(60_000 + 60_000 + 3_600_000);
});

test('what is reserved goes with its request into the next window', () => {
  const under = calendar('day');
  const reserved = reserve(under, NOTHING_SPENT, 60n, DAY_MS - 1);
  if (reserved.kind === 'refused') throw new Error('refused');
  expect(reserve(under, reserved.spending, 41n, DAY_MS)).toMatchObject({ kind: 'refused', availablePico: 40n });
  const { spending } = spend(under, reserved.spending, 60n, 50n, DAY_MS + 1);
  expect([spentPico(spending), spending.reservedPico]).toEqual([50n, 0n]);
  expect(reserve(under, spending, 50n, DAY_MS + 1).kind).toBe('reserved');
});

test.each([
  { kind: 'calendar', period: 'day' },
  { kind: 'rolling', windowS: 3600 },
] as const)('a refusal is told again in the next window, also where nothing was spent in the last ($kind)', (reset) => {
  const under = budget(reset);
  const first = reserve(under, NOTHING_SPENT, 101n, 0);
  expect(first).toMatchObject({ kind: 'refused', news: true });
  expect(reserve(under, first.spending, 101n, 1000)).toMatchObject({ kind: 'refused', news: false });
  expect(reserve(under, first.spending, 101n, DAY_MS)).toMatchObject({ kind: 'refused', news: true });
  expect(resetsMs(budget({ kind: 'rolling', windowS: 3600 }), first.spending, 0)).toBe(null);
});

test('each limit is told about once in a window', () => {
  const under = budget({ kind: 'calendar', period: 'day' }, 100n, 50n);
  const first = spend(under, { ...NOTHING_SPENT, reservedPico: 60n }, 60n, 60n, 0);
  expect(first.news).toBe(true);
  const refused = reserve(under, first.spending, 50n, 1);
  expect(refused).toMatchObject({ kind: 'refused', news: true });
  expect(reserve(under, refused.spending, 50n, 2)).toMatchObject({ kind: 'refused', news: false });
  const later = reserve(under, refused.spending, 101n, DAY_MS);
  expect(later).toMatchObject({ kind: 'refused', news: true });
  expect(spend(under, { ...later.spending, reservedPico: 50n }, 50n, 50n, DAY_MS).news).toBe(true);
});

test('a cost above its reservation is impossible, and says so', () => {
  expect(() => spend(calendar('day'), { ...NOTHING_SPENT, reservedPico: 1n }, 1n, 2n, 0)).toThrow('2 pico-USD');
});

test.each([
  { kind: 'never' },
  { kind: 'calendar', period: 'day' },
  { kind: 'calendar', period: 'week' },
  { kind: 'calendar', period: 'month' },
  { kind: 'rolling', windowS: 60 },
  { kind: 'rolling', windowS: 86_400 },
] as Reset[])('under $kind $period $windowS no order of 3,000 events passes the limit or loses a sum', (reset) => {
  for (let seed = 1; seed <= 5; seed++) {
    const random = seeded(seed);
    const under = budget(reset, 1000n, 700n);
    let nowMs = at('2026-02-27T20:00:00Z');
    let spending = NOTHING_SPENT;
    let open: bigint[] = [];
    const booked: { atMs: number; pico: bigint }[] = [];
    for (let step = 0; step < 600; step++) {
      nowMs += random(10) === 0 ? random(2 * DAY_MS) : random(20_000);
      const event = random(3);
      if (event === 0 || open.length === 0) {
        const pico = BigInt(random(300));
        const before = rolled(under, spending, nowMs);
        const outcome = reserve(under, spending, pico, nowMs);
        const fits = spentPico(before) + before.reservedPico + pico <= 1000n;
        expect(outcome.kind).toBe(fits ? 'reserved' : 'refused');
        if (outcome.kind === 'reserved') open.push(pico);
        spending = outcome.spending;
      } else {
        const reserved = open[0]!;
        open = open.slice(1);
        const cost = event === 1 ? 0n : BigInt(random(Number(reserved) + 1));
        spending = spend(under, spending, reserved, cost, nowMs).spending;
        booked.push({ atMs: nowMs, pico: cost });
      }
      const now = rolled(under, spending, nowMs);
      expect(now.reservedPico).toBe(open.reduce((sum, pico) => sum + pico, 0n));
      expect(spentPico(now) + now.reservedPico).toBeLessThanOrEqual(1000n);
      // Never less than what was spent in the window, never more than what was spent in it and a sixtieth.
      const sumSince = (fromMs: number) =>
        booked.filter(({ atMs }) => atMs >= fromMs).reduce((sum, { pico }) => sum + pico, 0n);
      const [least, most] = bounds(reset, nowMs).map(sumSince);
      expect(spentPico(now)).toBeGreaterThanOrEqual(least!);
      expect(spentPico(now)).toBeLessThanOrEqual(most!);
    }
  }
});

function bounds(reset: Reset, nowMs: number): [number, number] {
  switch (reset.kind) {
    case 'never':
      return [0, 0];
    case 'rolling': {
      const windowMs = reset.windowS * 1000;
      return [nowMs - windowMs + 1, nowMs - windowMs - windowMs / 60];
    }
    case 'calendar': {
      const date = new Date(nowMs);
      const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
      const back = reset.period === 'week' ? (date.getUTCDay() + 6) % 7 : 0;
      const fromMs = reset.period === 'month' ? Date.UTC(year, month, 1) : Date.UTC(year, month, day - back);
      return [fromMs, fromMs];
    }
  }
}
