import { expect, test } from 'vitest';
import { runContest } from '../../gpu-worker/bench/contest.ts';
import type { BenchReport } from '../../gpu-worker/bench/report.ts';
import { tableOf } from '../../gpu-worker/bench/report.ts';
import { median, runRounds } from '../../gpu-worker/bench/rounds.ts';

test('contenders take turns, and warm-ups do not count', async () => {
  const turns: string[] = [];
  const contender = (name: string) => ({
    name,
    measure: async () => turns.push(name),
  });
  const found = await runRounds([contender('a'), contender('b')], { rounds: 2, warmUps: 1 });
  expect(turns.join('')).toBe('ababab');
  expect([found.get('a'), found.get('b')]).toEqual([{ samples: [3, 5] }, { samples: [4, 6] }]);
});

test('one that fails is left out from then on and keeps its reason', async () => {
  let calls = 0;
  const failing = {
    name: 'failing',
    measure: async () => {
      calls++;
      throw new Error('out of luck');
    },
  };
  const found = await runRounds([failing, { name: 'fine', measure: async () => 1 }], { rounds: 3, warmUps: 1 });
  expect(found.get('failing')).toEqual({ failure: 'out of luck' });
  expect(found.get('fine')).toEqual({ samples: [1, 1, 1] });
  expect(calls).toBe(1);
});

test('the median is the middle one, or the mean of the middle two', () => {
  expect(median([5, 1, 100])).toBe(5);
  expect(median([4, 1, 2, 100])).toBe(3);
  expect(() => median([])).toThrow('the median of no values');
});

test('a contest of ours alone has no ratios, and one of ours that fails rejects', async () => {
  const rivals = { peers: [], missing: [], task: { kind: 'gemv' }, rounds: 1 } as const;
  const contest = await runContest([{ name: 'ours', measure: async () => 7 }], rivals);
  expect([contest.of('ours'), contest.ratios('ours'), contest.outcomes]).toEqual([7, {}, []]);
  const failing = async () => {
    throw new Error('no memory');
  };
  await expect(runContest([{ name: 'ours', measure: failing }], rivals)).rejects.toThrow('no memory');
});

test('a table names the rival that could not be measured', () => {
  const report: BenchReport = {
    task: 'decode',
    device: 'a machine',
    commit: 'abc',
    backend: 'wasm',
    settings: { shape: '1,2' },
    results: [
      { name: 'op: time', value: 1234, unit: 'us' },
      { name: 'op: of the bandwidth limit', value: 0.5, unit: 'fraction' },
    ],
    ratios: { slower: 2 },
    peers: [{ name: 'wllama', outcome: 'not_measured', reason: 'no browser' }],
  };
  expect(tableOf(report)).toBe(
    [
      'decode on wasm, a machine, commit abc',
      'shape 1,2',
      '',
      'op  1,234 us, 0.5 of the bandwidth limit',
      '2.00 times slower',
      'wllama was not measured: no browser',
    ].join('\n'),
  );
});
