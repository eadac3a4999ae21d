import { describe, expect, test } from 'vitest';
import { KvPages } from '../../../core/engine/kv-pages.ts';
import { uniform } from '../../../core/engine/random.ts';
import { Scheduler } from '../../../core/engine/scheduler.ts';
import type { Sequence } from '../../../core/engine/sequence.ts';

const PAGE_TOKENS = 4;

function sequence(promptTokens: number): Sequence {
  // The scheduler reads token counts and pages only.
  return {
    ids: new Array<number>(promptTokens).fill(0),
    promptTokens,
    maxNewTokens: 100,
    numCachedTokens: 0,
    pageIds: [],
  } as unknown as Sequence;
}

/** One engine step: every chunk is computed; sequences that reach their end get a token. */
function run(scheduler: Scheduler): { count: number; sequence: Sequence }[] {
  const chunks = scheduler.next();
  for (const { sequence, count } of chunks) {
    sequence.numCachedTokens += count;
    if (sequence.numCachedTokens === sequence.ids.length) sequence.ids.push(0);
  }
  return chunks;
}

describe('KvPages', () => {
  test('growing takes what is missing or nothing', () => {
    const pages = new KvPages(3, PAGE_TOKENS);
    const mine: number[] = [];
    expect(pages.grow(mine, 5)).toBe(true);
    expect(mine).toHaveLength(2);
    expect(pages.grow(mine, 8)).toBe(true);
    expect(mine).toHaveLength(2);
    expect(pages.grow(mine, 13)).toBe(false);
    expect([mine.length, pages.freePages]).toEqual([2, 1]);
    pages.release(mine);
    expect([mine.length, pages.freePages]).toEqual([0, 3]);
  });

  test('a page released twice is an impossible state', () => {
    const pages = new KvPages(1, PAGE_TOKENS);
    expect(() => pages.release([0])).toThrow('released twice');
  });
});

describe('Scheduler', () => {
  test('prefill and decode share a batch, decodes first', () => {
    const scheduler = new Scheduler(new KvPages(100, PAGE_TOKENS), { maxBatchTokens: 8, maxSequences: 4 });
    const [first, second] = [sequence(3), sequence(20)];
    scheduler.add(first);
    expect(run(scheduler).map(({ count }) => count)).toEqual([3]);
    scheduler.add(second);
    const mixed = run(scheduler);
    expect(mixed.map(({ sequence, count }) => [sequence === first, count])).toEqual([
      [true, 1],
      [false, 7],
    ]);
  });

  test('a long prompt is cut into chunks under the budget', () => {
    const scheduler = new Scheduler(new KvPages(100, PAGE_TOKENS), { maxBatchTokens: 8, maxSequences: 4 });
    const long = sequence(20);
    scheduler.add(long);
    expect([run(scheduler), run(scheduler), run(scheduler)].map((chunks) => chunks[0]!.count)).toEqual([8, 8, 4]);
    expect(long.ids).toHaveLength(21);
  });

  test('no more sequences run than allowed', () => {
    const scheduler = new Scheduler(new KvPages(100, PAGE_TOKENS), { maxBatchTokens: 64, maxSequences: 2 });
    for (let i = 0; i < 5; i++) scheduler.add(sequence(2));
    run(scheduler);
    expect([scheduler.numRunning, scheduler.numWaiting]).toEqual([2, 3]);
  });

  test('when pages run out the youngest gives way and recomputes later', () => {
    const scheduler = new Scheduler(new KvPages(4, PAGE_TOKENS), { maxBatchTokens: 64, maxSequences: 4 });
    const [old, young] = [sequence(6), sequence(6)];
    scheduler.add(old);
    scheduler.add(young);
    for (let step = 0; step < 4; step++) run(scheduler);
    expect(old.ids).toHaveLength(10);
    expect([young.numCachedTokens, young.pageIds.length, scheduler.numWaiting]).toEqual([0, 0, 1]);
    scheduler.remove(old);
    run(scheduler);
    expect(young.numCachedTokens).toBe(young.ids.length - 1);
  });

  test('any traffic: no page is shared or lost, budgets hold, everyone ends', () => {
    for (let seed = 0; seed < 200; seed++) {
      let draw = 0;
      const below = (n: number) => Math.floor(uniform(seed, draw++) * n);
      const numPages = 8 + below(20);
      const pages = new KvPages(numPages, PAGE_TOKENS);
      const limits = { maxBatchTokens: 1 + below(24), maxSequences: 1 + below(6) };
      const scheduler = new Scheduler(pages, limits);
      const capacity = numPages * PAGE_TOKENS;
      const live = new Map<Sequence, number>();
      let toCome = 12;
      for (let step = 0; step < 5000 && (toCome > 0 || live.size > 0); step++) {
        if (toCome > 0 && below(3) === 0) {
          const prompt = 1 + below(capacity - 2);
          const added = sequence(prompt);
          live.set(added, prompt + 1 + below(capacity - prompt));
          scheduler.add(added);
          toCome--;
        }
        const chunks = run(scheduler);
        expect(chunks.reduce((sum, { count }) => sum + count, 0)).toBeLessThanOrEqual(limits.maxBatchTokens);
        expect(scheduler.numRunning).toBeLessThanOrEqual(limits.maxSequences);
        const held = [...live.keys()].flatMap(({ pageIds }) => pageIds);
        expect(new Set(held).size).toBe(held.length);
        expect(held.length + pages.freePages).toBe(numPages);
        for (const [one, end] of live)
          if (one.ids.length >= end || below(200) === 0) {
            live.delete(one);
            scheduler.remove(one);
          }
      }
      expect([seed, live.size, pages.freePages]).toEqual([seed, 0, numPages]);
    }
  });
});
