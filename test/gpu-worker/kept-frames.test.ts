/** Kept frames: what is sent again is what the queue lacks, whatever was acknowledged and however frames were cut. */
import { expect, test } from 'vitest';
import { uniform } from '../../core/engine/random.ts';
import type { Frame, TokenOut } from '../../core/protocol.ts';
import { KeptFrames } from '../../gpu-worker/kept-frames.ts';

const of = { jobId: 'job', epoch: 3 };
const token = (id: number, alternatives = 0): TokenOut => {
  const top = Array.from({ length: alternatives }, () => ({ id: 1, text: 'a', logprob: -1 }));
  return { id, logprob: -1, text: ` ${id}`, special: false, top };
};
const tokens = (from: number, count: number): Frame => ({
  ...of,
  kind: 'tokens',
  from,
  tokens: Array.from({ length: count }, (_, at) => token(from + at)),
});
const started: Frame = { ...of, kind: 'started', promptTokens: 3, cachedTokens: 0 };
const finished = (count: number): Frame => ({ ...of, kind: 'finished', reason: 'length', tokens: count, text: '' });

test('frames flow, are kept, and come again from any token that was not acknowledged', () => {
  let draw = 0;
  const below = (n: number) => Math.floor(uniform(5, draw++) * n);
  for (let round = 0; round < 200; round++) {
    const kept = new KeptFrames();
    const emitted = below(3) * 10;
    kept.begin('job', 3, emitted);
    expect(kept.keep([started])).toEqual([started]);
    let produced = emitted;
    let acknowledged = emitted;
    for (let step = 0; step < 30; step++) {
      const frame = tokens(produced, 1 + below(3));
      produced += (frame as { tokens: unknown[] }).tokens.length;
      expect(kept.keep([frame])).toEqual([frame]);
      if (below(4) === 0) {
        acknowledged += below(produced - acknowledged + 1);
        kept.acknowledge('job', 3, acknowledged);
      }
    }
    expect(kept.held()).toEqual([{ jobId: 'job', epoch: 3, from: acknowledged }]);
    kept.hold();
    expect(kept.keep([finished(produced)])).toEqual([]);
    const accepted = acknowledged + below(produced - acknowledged + 1);
    const again = kept.replay('job', 3, accepted)!;
    expect(again[0]).toEqual(started);
    expect(again.at(-1)).toEqual(finished(produced));
    const middle = again.slice(1, -1);
    expect(middle).toEqual(accepted === produced ? [] : [tokens(accepted, produced - accepted)]);
  }
});

test('nothing is kept of a lease that is void, ended or another', () => {
  const kept = new KeptFrames();
  expect(kept.keep([started])).toEqual([]);
  kept.begin('job', 3, 0);
  expect(kept.keep([{ ...started, epoch: 2 }])).toEqual([]);
  kept.forget('job', 2);
  expect(kept.has('job', 3)).toBe(true);
  kept.forget('job', 3);
  expect(kept.held()).toEqual([]);
  expect(kept.replay('job', 3, 0)).toBeNull();
});

test('tokens that were let go cannot be sent again', () => {
  const kept = new KeptFrames();
  kept.begin('job', 3, 0);
  kept.keep([tokens(0, 10)]);
  kept.acknowledge('job', 3, 5);
  expect(kept.replay('job', 3, 4)).toBeNull();
  expect(kept.replay('job', 3, 5)).toEqual([tokens(5, 5)]);
});

test('what is kept is bounded: tokens and their alternatives, until they are acknowledged', () => {
  const kept = new KeptFrames();
  kept.begin('job', 3, 0);
  kept.keep([tokens(0, 4096)]);
  expect(kept.overfull()).toEqual([]);
  kept.keep([tokens(4096, 1)]);
  expect(kept.overfull()).toEqual([of]);
  kept.acknowledge('job', 3, 4097);
  kept.keep([{ ...of, kind: 'tokens', from: 4097, tokens: Array.from({ length: 196 }, (_, id) => token(id, 20)) }]);
  expect(kept.overfull()).toEqual([of]);
  kept.acknowledge('job', 3, 4098);
  expect(kept.overfull()).toEqual([]);
});
