/** Queue client: what a job's reader is told when the queue object cannot be reached any more. */
import { expect, test } from 'vitest';
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
