/** Lease: what the queue accepts from a worker. */
import { expect, test } from 'vitest';
import type { Failure } from '../../../core/errors.ts';
import type { Frame, TokenOut } from '../../../core/protocol.ts';
import { judge } from '../../../edge/queue/lease.ts';

const running = { started: true, phase: 'flowing' as const, accepted: 2, promptTokenLimit: 8, completionTokenLimit: 4 };
const of = { jobId: 'job', epoch: 1 };
const token: TokenOut = { id: 1, logprob: null, text: 'a', special: false, top: [] };
const tokens = (from: number, count: number): Frame => ({
  ...of,
  kind: 'tokens',
  from,
  tokens: Array(count).fill(token),
});
const started = (promptTokens: number): Frame => ({ ...of, kind: 'started', promptTokens, cachedTokens: 0 });
const finished = (count: number): Frame => ({ ...of, kind: 'finished', reason: 'eos', tokens: count, text: '' });

test('tokens count in order and within the reservation', () => {
  expect(judge(running, tokens(2, 2))).toMatchObject({ kind: 'accepted' });
  expect(judge(running, tokens(3, 1))).toMatchObject({ kind: 'broken', free: false });
  expect(judge(running, tokens(2, 3))).toMatchObject({ kind: 'broken', free: false });
});

test('a job starts once, before anything else, within its reservation', () => {
  const fresh = { ...running, started: false, accepted: 0 };
  expect(judge(fresh, started(8))).toEqual({ kind: 'started', promptTokens: 8, cachedTokens: 0 });
  expect(judge(fresh, started(9))).toMatchObject({
    kind: 'broken',
    free: true,
    failure: { code: 'reservation_exceeded', promptTokens: 9, reservedTokens: 8 },
  });
  expect(judge(fresh, tokens(0, 1))).toMatchObject({ kind: 'broken' });
  expect(judge(fresh, finished(0))).toMatchObject({ kind: 'broken' });
  expect(judge(fresh, { ...started(3), cachedTokens: 4 } as Frame)).toMatchObject({ kind: 'broken' });
  expect(judge(running, started(1)), 'by a second worker').toEqual({ kind: 'repeated' });
});

test('a worker is honest when it counts what was accepted', () => {
  expect(judge(running, finished(2))).toMatchObject({ kind: 'finished', honest: true });
  expect(judge(running, finished(3))).toMatchObject({ kind: 'finished', honest: false });
});

test("a worker's failure reaches callers only when it is about their request", () => {
  const failed = (failure: Failure): Frame => ({ ...of, kind: 'failed', failure });
  const context: Failure = { code: 'context_exceeded', promptTokens: 9, maxNewTokens: 1, contextTokens: 8 };
  expect(judge(running, failed(context))).toEqual({ kind: 'failed', failure: context });
  for (const failure of [
    { code: 'internal', reason: '/home/secret' },
    { code: 'budget_exceeded' },
    { code: 'context_exceeded', promptTokens: '<b>' },
    { code: 'no such code' },
  ])
    expect(judge(running, failed(failure as Failure))).toMatchObject({ failure: { code: 'generation_failed' } });
});

test('what was accepted before does not count again', () => {
  expect(judge(running, tokens(0, 2))).toEqual({ kind: 'repeated' });
  expect(judge(running, tokens(1, 2))).toEqual({ kind: 'accepted', tokens: [token] });
  expect(judge(running, tokens(1, 3))).toMatchObject({ kind: 'accepted', tokens: [token, token] });
  expect(judge(running, tokens(1, 4))).toMatchObject({ kind: 'broken' });
});

test('while frames are sent again, those that were on their way and leave a gap do not count', () => {
  const replaying = { ...running, phase: 'replaying' as const };
  expect(judge(replaying, tokens(3, 1))).toEqual({ kind: 'premature' });
  expect(judge(replaying, finished(3))).toEqual({ kind: 'premature' });
  expect(judge(replaying, finished(2))).toMatchObject({ kind: 'finished', honest: true });
  expect(judge(replaying, tokens(1, 2))).toMatchObject({ kind: 'accepted', tokens: [token] });
  for (const frame of [tokens(0, 1), finished(0)])
    expect(judge({ ...replaying, started: false, accepted: 0 }, frame)).toEqual({ kind: 'premature' });
});
