/** Link: a worker's side of the socket, against sockets that a test opens, fills and loses. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Frame, type Job, PROTOCOL_VERSION } from '../../core/protocol.ts';
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
    this.says({ type: 'welcome', protocol: PROTOCOL_VERSION, heartbeatMs: 1000, shards: 1 });
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
  const cancels: number[] = [];
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
    { edge: 'http://edge', token: 't', workerId: 'w', backend: 'wasm', model, shard: 0, log: () => undefined },
    {
      creditsOfHello: () => 1,
      onLease: (_job, epoch) => leases.push(epoch),
      onCancel: (_job, epoch) => cancels.push(epoch),
      onLinked: () => undefined,
      onForgotten: () => undefined,
      onLost: () => undefined,
      onCredits: () => undefined,
      onDemand: () => undefined,
      onRefused: () => undefined,
    },
  );
  link.connect();
  FakeSocket.made[0]!.opens();
  return { link, leases, cancels };
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

const frames = (from: number, count: number): Frame[] => [
  {
    jobId: 'job',
    epoch: 1,
    kind: 'tokens',
    from,
    tokens: Array.from({ length: count }, (_, at) => ({
      id: from + at,
      logprob: 0,
      text: '',
      special: false,
      top: [],
    })),
  },
];
const sentBy = (socket: FakeSocket | undefined) =>
  socket!.sent.filter((text) => text !== 'ping').map((text) => JSON.parse(text));

test('what was made while the link was down waits for the queue to say from where it is missing', async () => {
  const { link, cancels } = connect();
  const [old] = FakeSocket.made;
  old!.says({ type: 'lease', job, epoch: 1, emittedIds: [] });
  link.send(frames(0, 2));
  old!.dispatchEvent(new Event('close'));
  link.send(frames(2, 2));
  await vi.advanceTimersByTimeAsync(2_000);
  const live = FakeSocket.made.at(-1);
  expect(live).not.toBe(old);
  live!.opens();
  link.send(frames(4, 1));
  expect(sentBy(live)).toEqual([expect.objectContaining({ leases: [{ jobId: 'job', epoch: 1, from: 0 }] })]);
  live!.says({ type: 'kept', jobId: 'job', epoch: 1, tokens: 1 });
  link.send(frames(5, 1));
  expect(sentBy(live).slice(1)).toEqual([
    { type: 'frames', frames: frames(1, 4) },
    { type: 'frames', frames: frames(5, 1) },
  ]);
  live!.says({ type: 'cancel', jobId: 'job', epoch: 2 });
  expect(cancels).toEqual([]);
  live!.says({ type: 'cancel', jobId: 'job', epoch: 1 });
  expect(cancels).toEqual([1]);
  link.close();
});

test('a lease of which more is kept than memory is meant for is given up', () => {
  const { link, cancels } = connect();
  const [socket] = FakeSocket.made;
  socket!.says({ type: 'lease', job, epoch: 1, emittedIds: [] });
  socket!.dispatchEvent(new Event('close'));
  for (let from = 0; from < 4096; from += 64) link.send(frames(from, 64));
  expect(cancels).toEqual([]);
  link.send(frames(4096, 1));
  expect(cancels).toEqual([1]);
  link.close();
});
