/** Queue client: what a job's reader is told when the queue object cannot be reached any more. */
import { expect, test, vi } from 'vitest';
import { submit } from '../../../edge/queue/client.ts';

type Queue = ReturnType<Parameters<typeof submit>[0]>;

test('events of a lost queue break off without a usage, since only the ledger knows what is billed', async () => {
  const event = { type: 'tokens', from: 0, tokens: [{ id: 1, logprob: -1, text: 'a', special: false, top: [] }] };
  const answers = [new Response(`${JSON.stringify(event)}\n`), new Response(null, { status: 404 })];
  const queue = () => ({ fetch: () => Promise.resolve(answers.shift()!) }) as unknown as Queue;
  const grant = { jobId: 'job', keepUntilMs: null } as Parameters<typeof submit>[1];
  const job = {} as Parameters<typeof submit>[2];
  const submitted = await submit(queue, grant, job, 'never', new AbortController().signal);
  if (submitted.kind !== 'queued') throw new Error('refused');
  const reader = submitted.events.getReader();
  expect((await reader.read()).value).toEqual(event);
  await expect(reader.read()).rejects.toThrow('the queue of job job was lost after 1 tokens');
});

test('a connection that stays open and says nothing any more is given up for a new one, and only then closed', async () => {
  const token = (from: number) => ({
    type: 'tokens',
    from,
    tokens: [{ id: from, logprob: -1, text: 'a', special: false, top: [] }],
  });
  const steps: string[] = [];
  const silent = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode(`${JSON.stringify(token(0))}\n`)),
    cancel: () => {
      steps.push('closed');
    },
  });
  const answers = [new Response(silent), new Response(`${JSON.stringify(token(1))}\n`)];
  const fetch = (input: string) => {
    steps.push(input);
    return Promise.resolve(answers.shift()!);
  };
  const grant = { jobId: 'job', keepUntilMs: null } as Parameters<typeof submit>[1];
  const job = {} as Parameters<typeof submit>[2];
  const queue = () => ({ fetch }) as unknown as Queue;
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const submitted = await submit(queue, grant, job, 'never', new AbortController().signal);
    if (submitted.kind !== 'queued') throw new Error('refused');
    const reader = submitted.events.getReader();
    expect((await reader.read()).value).toEqual(token(0));
    const next = reader.read();
    await vi.advanceTimersByTimeAsync(15_000);
    expect((await next).value).toEqual(token(1));
    expect(steps).toEqual(['https://queue/jobs', 'https://queue/jobs/job/events?from=1', 'closed']);
    await reader.cancel();
  } finally {
    vi.useRealTimers();
  }
});
