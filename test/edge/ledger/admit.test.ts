/** Admit: what no order of admissions and ends can break, over every purse and limit at once. */
import { expect, test } from 'vitest';
import type { Budget, KeyLimits, Reset } from '../../../edge/api/accounts.ts';
import type { Line } from '../../../edge/ledger/admit.ts';
import { close, decide, metersOf } from '../../../edge/ledger/admit.ts';
import { NOTHING_SPENT, rolled, spentPico } from '../../../edge/ledger/budget.ts';
import { fullBuckets, UNITS } from '../../../edge/ledger/limits.ts';
import type { Account } from '../../../edge/ledger/storage.ts';
import { seeded } from './seeded.ts';

const RESETS: readonly Reset[] = [
  { kind: 'never' },
  { kind: 'calendar', period: 'day' },
  { kind: 'rolling', windowS: 3600 },
];

test('in 300 lives of an account nothing goes below zero, nothing is lost, and a refusal takes nothing', () => {
  let [numAdmitted, numRefused] = [0, 0];
  for (let seed = 1; seed <= 300; seed++) {
    const random = seeded(seed);
    const budget = (): Budget | null =>
      random(3) === 0
        ? null
        : { hardPico: BigInt(random(5000)), softPico: BigInt(random(5000)), reset: RESETS[random(3)]! };
    const limits = { requestsPerMin: 5 + random(50), tokensPerMin: 100 + random(5000), concurrency: 1 + random(10) };
    const keyLimits: KeyLimits | null =
      random(2) === 0 ? null : { requestsPerMin: null, tokensPerMin: random(3000), concurrency: 1 + random(5) };
    const startMs = 1_800_000_000_000;
    let nowMs = startMs;
    let account: Account = {
      accountId: 'a',
      name: 'a',
      billing: random(3) === 0 ? 'postpaid' : 'prepaid',
      creditPico: BigInt(random(20_000)),
      spentPico: 0n,
      reservedPico: 0n,
      limits,
      buckets: fullBuckets(limits, startMs),
      budget: budget(),
      spending: NOTHING_SPENT,
      creditTold: false,
      stripeCustomer: null,
    };
    let line: Line = { limits: keyLimits, budget: budget(), state: { buckets: null, spending: NOTHING_SPENT } };
    const open: { pico: bigint; tokens: number }[] = [];
    let spent = 0n;
    for (let step = 0; step < 120; step++) {
      nowMs += random(8) === 0 ? random(7_200_000) : random(2000);
      if (random(2) === 0 || open.length === 0) {
        const asked = {
          pico: BigInt(random(900)),
          tokens: random(800),
          active: { account: open.length, line: open.length },
        };
        const before = structuredClone({ account, line });
        const decision = decide(account, line, asked, nowMs);
        expect({ account, line }).toEqual(before);
        if (decision.kind === 'refused') {
          numRefused += 1;
          // What it may keep: that it was told.
          expect(decision.account.reservedPico).toBe(account.reservedPico);
          expect(decision.account.buckets).toEqual(account.buckets);
          expect(decision.account.spending.reservedPico).toBe(account.spending.reservedPico);
          if (decision.news.length === 0) continue;
        } else {
          numAdmitted += 1;
          open.push({ pico: asked.pico, tokens: asked.tokens });
        }
        account = decision.account;
        line = { ...line, state: decision.state ?? line.state };
      } else {
        const [ended] = open.splice(random(open.length), 1);
        const cost = random(3) === 0 ? 0n : BigInt(random(Number(ended!.pico) + 1));
        const closed = close(account, line, ended!, { cost, tokens: random(ended!.tokens + 1) }, nowMs);
        spent += cost;
        account = closed.account;
        line = { ...line, state: closed.state ?? line.state };
      }
      const reserved = open.reduce((sum, { pico }) => sum + pico, 0n);
      expect([account.spentPico, account.reservedPico]).toEqual([spent, reserved]);
      if (account.billing === 'prepaid') expect(spent + reserved).toBeLessThanOrEqual(account.creditPico);
      for (const [under, spending] of [
        [account.budget, account.spending],
        [line.budget, line.state.spending],
      ] as const) {
        if (under === null) continue;
        const now = rolled(under, spending, nowMs);
        expect(now.reservedPico).toBe(reserved);
        expect(spentPico(now) + reserved).toBeLessThanOrEqual(under.hardPico!);
      }
      expect(open.length).toBeLessThanOrEqual(
        Math.min(limits.concurrency, keyLimits?.concurrency ?? limits.concurrency),
      );
      for (const meter of metersOf(account, line, nowMs)) {
        expect(Number.isSafeInteger(meter.buckets.tokenUnits) && Number.isSafeInteger(meter.buckets.requestUnits)).toBe(
          true,
        );
        expect(meter.buckets.requestUnits).toBeGreaterThanOrEqual(0);
        expect(meter.buckets.tokenUnits).toBeLessThanOrEqual(meter.limits.tokensPerMin * UNITS);
      }
    }
  }
  expect(numAdmitted).toBeGreaterThan(3000);
  expect(numRefused).toBeGreaterThan(3000);
});
