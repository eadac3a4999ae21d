/** Fallback link: when the queue opens a connection, and when it lets go. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Env } from '../../../edge/env.ts';
import { FallbackLink } from '../../../edge/queue/fallback-link.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** A namespace whose objects answer in this order; `asked` counts. */
function answering(...answers: (() => Response)[]) {
  const state = { asked: 0 };
  const fetch = async () => answers[state.asked++]!();
  return { state, namespace: { getByName: () => ({ fetch }) } as unknown as Env['FALLBACK'] };
}

const upgraded = () => new Response(null, { status: 101, webSocket: Object.values(new WebSocketPair())[0]! });
const refused = () =>
  Response.json(
    { failure: { code: 'file_missing', file: 'models/m', reason: 'there is no config.json' } },
    { status: 500 },
  );

test('one connection at a time; another one when it is lost', async () => {
  const { state, namespace } = answering(upgraded, upgraded);
  const sockets: WebSocket[] = [];
  const link = new FallbackLink(namespace, (socket) => sockets.push(socket));
  await Promise.all([link.open('m'), link.open('m')]);
  expect([state.asked, sockets.length, link.isClosed]).toEqual([1, 1, false]);
  link.lost();
  await link.open('m');
  expect([state.asked, sockets.length]).toEqual([2, 2]);
});

test('a refusal is asked about again after five seconds, not before', async () => {
  const { state, namespace } = answering(refused, upgraded);
  const link = new FallbackLink(namespace, () => {});
  await link.open('m');
  vi.setSystemTime(Date.now() + 4_900);
  await link.open('m');
  expect([state.asked, link.isClosed]).toEqual([1, true]);
  vi.setSystemTime(Date.now() + 200);
  await link.open('m');
  expect([state.asked, link.isClosed]).toEqual([2, false]);
});

test('it is idle thirty seconds after its last lease', async () => {
  const { namespace } = answering(upgraded);
  const link = new FallbackLink(namespace, () => {});
  await link.open('m');
  const start = Date.now();
  expect(link.isIdle(1, start + 60_000)).toBe(false);
  expect(link.isIdle(0, start + 61_000)).toBe(false);
  expect(link.isIdle(0, start + 90_999)).toBe(false);
  expect(link.isIdle(0, start + 91_000)).toBe(true);
});

test('without a binding there is nothing to open', async () => {
  const link = new FallbackLink(undefined, () => {});
  await link.open('m');
  expect(link.isClosed).toBe(true);
});
