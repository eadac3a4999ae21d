/** Link: a worker's side of the socket, against sockets that a test opens, fills and loses. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Job } from '../../core/protocol.ts';
import { Link } from '../../gpu-worker/link.ts';

class FakeSocket extends EventTarget {
  static OPEN = 1;
  static made: FakeSocket[] = [];
  readyState = 1;
  readonly sent: string[] = [];

  constructor() {
    super();
    FakeSocket.made.push(this);
  }
  send(text: string): void {
    this.sent.push(text);
  }
  /** As after a silence: the peer's farewell does not come. */
  close(): void {}
  says(message: object): void {
    this.dispatchEvent(new MessageEvent('message', { data: JSON.stringify(message) }));
  }
  opens(): void {
    this.dispatchEvent(new Event('open'));
    this.says({ type: 'welcome', protocol: 1, heartbeatMs: 1000 });
  }
}

const job: Job = {
  id: 'job',
  model: 'm',
  input: { kind: 'ids', ids: [1] },
  sampling: { temperature: 0, topK: 0, topP: 1, seed: 0 },
  maxNewTokens: 1,
  truncatePromptTokens: null,
  stop: [],
  stopText: 'drop',
  eos: 'stop',
  topLogprobs: 0,
  promptTokenLimit: 1,
};

function connect() {
  const leases: number[] = [];
  const model = {
    id: 'm',
    architecture: 'llama',
    quantization: null,
    contextTokens: 10,
    vocabSize: 10,
    parameters: 1,
    maxTokensPerByte: 1,
    textOverheadTokens: 0,
    chat: null,
  };
  const link = new Link(
    { edge: 'http://edge', token: 't', workerId: 'w', backend: 'wasm', model, credits: 1, log: () => undefined },
    {
      onLease: (_job, epoch) => leases.push(epoch),
      onCancel: () => undefined,
      onLinked: () => undefined,
      onLost: () => undefined,
      onRefused: () => undefined,
    },
  );
  link.connect();
  FakeSocket.made[0]!.opens();
  return { link, leases };
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance'] });
  FakeSocket.made = [];
  vi.stubGlobal('WebSocket', FakeSocket);
  vi.stubGlobal('fetch', () => Promise.resolve(new Response(null, { status: 400 })));
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('a socket given up as silent is not listened to any more: its late lease must not replace the live one', async () => {
  const { link, leases } = connect();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(FakeSocket.made.length).toBeGreaterThan(1);
  const [old] = FakeSocket.made;
  const live = FakeSocket.made.at(-1)!;
  live.opens();
  live.says({ type: 'lease', job, epoch: 2, emittedIds: [] });
  old!.says({ type: 'lease', job, epoch: 1, emittedIds: [] });
  expect(leases).toEqual([2]);
  link.close();
});

test('a lease that arrives after the farewell is not begun', () => {
  const { link, leases } = connect();
  link.close();
  FakeSocket.made[0]!.says({ type: 'lease', job, epoch: 1, emittedIds: [] });
  expect(leases).toEqual([]);
});

test('a draining link that is lost does not come back for new leases', async () => {
  const { link } = connect();
  link.drain();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(FakeSocket.made).toHaveLength(1);
  link.close();
});
