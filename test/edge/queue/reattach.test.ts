/** Re-attaching: the edge loses the queue object, before its answer or in the middle of it, and the client's stream is whole all the same. */
import { runDurableObjectAlarm } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { afterEach, expect, test, vi } from 'vitest';
import type { JobEvent } from '../../../edge/api/service.ts';
import { KeyRing } from '../../../edge/auth.ts';
import { CardCache } from '../../../edge/catalog/cache.ts';
import { EdgeService } from '../../../edge/edge-service.ts';
import { RETRY_MS } from '../../../edge/queue/client.ts';
import {
  call,
  idleModel,
  jobRequest,
  moneyOf,
  newAccount,
  newModel,
  readAll,
  rowOf,
  submit,
} from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';
import { crash, jump } from './faults.ts';

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

type Fate = 'delivered' | 'lost before' | 'lost after';

/** An edge whose next calls of a queue object meet these fates. */
function unluckyEdge(fates: Fate[]): EdgeService {
  const getByName = (name: string) => {
    const stub = env.QUEUE.getByName(name);
    return {
      async fetch(url: string, init?: RequestInit): Promise<Response> {
        const fate = fates.shift() ?? 'delivered';
        if (fate === 'lost before') throw new Error('Network connection lost.');
        const response = await stub.fetch(url, init);
        if (fate === 'delivered') return response;
        await response.body?.cancel();
        throw new Error('Network connection lost.');
      },
    };
  };
  const bindings = { ...env, QUEUE: { getByName } as unknown as typeof env.QUEUE };
  return new EdgeService(bindings, new KeyRing(env.KEY_SECRETS), new CardCache(env));
}

/** An edge whose next calls of an account's object meet these fates. */
function unluckyLedger(fates: Fate[]): EdgeService {
  const getByName = (name: string) =>
    new Proxy(env.ACCOUNT.getByName(name), {
      get: (stub, method: 'admit') => async (request: Parameters<typeof stub.admit>[0]) => {
        const fate = fates.shift() ?? 'delivered';
        if (fate === 'lost before') throw new Error('Network connection lost.');
        const answer = await stub[method](request);
        if (fate === 'lost after') throw new Error('Network connection lost.');
        return answer;
      },
    });
  const bindings = { ...env, ACCOUNT: { getByName } as unknown as typeof env.ACCOUNT };
  return new EdgeService(bindings, new KeyRing(env.KEY_SECRETS), new CardCache(env));
}

function hurry() {
  return vi.spyOn(scheduler, 'wait').mockResolvedValue(undefined);
}

function idsOf(events: readonly JobEvent[]): number[] {
  return events.flatMap((event) => (event.type === 'tokens' ? event.tokens.map(({ id }) => id) : []));
}

test('a crash in mid-stream: the client’s stream has every token once, and one start', async () => {
  const account = await newAccount();
  const model = newModel({ contextTokens: 500 });
  const first = await ScriptedWorker.connect(account.workerToken, model);
  const submission = await submit(account, jobRequest(model, { maxNewTokens: 200 }));
  const events = readAll(submission);
  const lease = await first.next('lease');
  first.start(lease);
  first.tokens(lease, 0, 64);
  await first.next('ack');
  first.tokens(lease, 64, 5);
  await crash(model);
  const second = await ScriptedWorker.connect(account.workerToken, model);
  const again = await second.next('lease');
  expect(again.emittedIds).toHaveLength(64);
  second.start(again);
  // The five that were only in memory come again, and then some: the client saw them already.
  second.tokens(again, 64, 3);
  second.tokens(again, 67, 13);
  second.finish(again, 80);
  const read = await events;
  expect(read.filter(({ type }) => type === 'started')).toHaveLength(1);
  expect(idsOf(read)).toEqual(Array.from({ length: 80 }, (_, at) => at));
  expect(read.at(-1)).toMatchObject({ type: 'finished', usage: { promptTokens: 3, completionTokens: 80 } });
  expect(await rowOf(account, submission.jobId)).toMatchObject({ usage: { completionTokens: 80 } });
});

test('crash after crash, streamed and in one piece, over HTTP: the text is the undisturbed one', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const body = { model: model.id, prompt: [1, 2, 3], max_tokens: 300 };
  // Read while it comes: an edge whose client does not read does not come back for it either.
  const streamed = call('POST', '/v1/completions', account.apiKey, { ...body, stream: true }).then((response) =>
    response.text(),
  );
  const whole = call('POST', '/v1/completions', account.apiKey, body);
  for (let round = 0; round < 4; round++) {
    const worker = await ScriptedWorker.connect(account.workerToken, model);
    const leases = [await worker.next('lease'), await worker.next('lease')];
    for (const lease of leases) {
      const from = lease.emittedIds.length;
      expect(from).toBe(64 * round);
      worker.start(lease);
      worker.tokens(lease, from, 64);
      await worker.next('ack');
      // These are not stored when the object crashes: the client may have them, and they come again.
      worker.tokens(lease, from + 64, 1 + round);
      if (round === 3) worker.finish(lease, from + 65 + round);
    }
    if (round === 3) break;
    await crash(model);
  }
  const text = Array.from({ length: 3 * 64 + 68 }, (_, at) => ` ${at}`).join('');
  const answer = await (await whole).json<{ choices: { text: string }[]; usage: object }>();
  expect(answer).toMatchObject({ choices: [{ text }], usage: { completion_tokens: 260 } });
  const events = await streamed;
  const texts = [...events.matchAll(/^data: (\{.*)$/gm)].map(([, json]) => JSON.parse(json!).choices[0].text);
  expect(texts.join('')).toBe(text);
  expect(events.endsWith('data: [DONE]\n\n')).toBe(true);
  expect([...events.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id))).toEqual(
    Array.from({ length: 260 }, (_, at) => at + 1),
  );
});

test.each<[string, Fate[]]>([
  ['did not arrive', ['lost before', 'lost before', 'lost before']],
  ['arrived, and its answer did not', ['lost after']],
  ['did both', ['lost after', 'lost before', 'lost after']],
])('a submission that %s is one job, with its whole answer', async (_, fates) => {
  hurry();
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(4);
  const idempotency = { key: 'k', bodyHash: 'h', ifNew: 'run' } as const;
  const edge = unluckyEdge(fates);
  const { signal } = new AbortController();
  const submitted = await edge.submit(account.caller, jobRequest(model), signal, { user: null, idempotency });
  if (!submitted.ok) throw new Error(submitted.failure.code);
  expect(idsOf(await readAll(submitted.value))).toEqual([0, 1, 2, 3]);
  await rowOf(account, submitted.value.jobId);
  expect(await moneyOf(account)).toEqual({ spent: '29', reserved: '0' });
});

test.each([null, { key: 'k', bodyHash: 'h', ifNew: 'run' } as const])(
  'an admission whose answer was lost is asked for again and reserves once, with the key %j',
  async (idempotency) => {
    hurry();
    const account = await newAccount();
    const model = newModel();
    const worker = await ScriptedWorker.connect(account.workerToken, model);
    const edge = unluckyLedger(['lost before', 'lost after', 'lost after', 'delivered']);
    const { signal } = new AbortController();
    const submitted = await edge.submit(account.caller, jobRequest(model), signal, { user: null, idempotency });
    if (!submitted.ok) throw new Error(submitted.failure.code);
    expect(submitted.value.replayed).toBe(false);
    expect(await moneyOf(account)).toEqual({ spent: '0', reserved: '59' });
    const lease = await worker.next('lease');
    worker.start(lease);
    worker.tokens(lease, 0, 4);
    worker.finish(lease, 4);
    expect(idsOf(await readAll(submitted.value))).toEqual([0, 1, 2, 3]);
    await rowOf(account, submitted.value.jobId);
    expect(await moneyOf(account)).toEqual({ spent: '29', reserved: '0' });
  },
);

test('an answer without a key whose submission was lost on its way back is whole too', async () => {
  hurry();
  const account = await newAccount();
  const model = await idleModel();
  const edge = unluckyEdge(['lost before', 'delivered', 'lost before', 'lost before']);
  const submitted = await edge.submit(account.caller, jobRequest(model), new AbortController().signal);
  if (!submitted.ok) throw new Error(submitted.failure.code);
  const events = readAll(submitted.value);
  await crash(model);
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(3);
  expect(idsOf(await events)).toEqual([0, 1, 2]);
});

test('a refusal after a try without an answer leaves the reservation to the ledger, which asks the queue', async () => {
  hurry();
  const account = await newAccount();
  const model = await idleModel();
  const waiting = await Promise.all(Array.from({ length: 64 }, () => submit(account, jobRequest(model))));
  const refused = await unluckyEdge(['lost before']).submit(
    account.caller,
    jobRequest(model),
    new AbortController().signal,
  );
  expect(refused).toMatchObject({ ok: false, failure: { code: 'queue_full' } });
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: String(65 * 59) });
  jump(36_000);
  await runDurableObjectAlarm(env.ACCOUNT.getByName(account.id));
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: String(64 * 59) });
  await Promise.all(waiting.map(({ events }) => events.cancel()));
});

test('a queue that stays away is tried for 15 s, and then the client is told that its bill is not known', async () => {
  const wait = hurry();
  const account = await newAccount();
  const model = await idleModel();
  const never = Array.from({ length: 20 }, (): Fate => 'lost before');
  const { signal } = new AbortController();
  const error = await unluckyEdge(never)
    .submit(account.caller, jobRequest(model), signal)
    .catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ failure: { code: 'answer_lost' } });
  const waitedMs = wait.mock.calls.reduce((sum, [ms]) => sum + (ms ?? 0), 0);
  expect(waitedMs).toBeGreaterThanOrEqual(15_000);
  expect(waitedMs).toBe(RETRY_MS.reduce((sum, ms) => sum + ms));
  // Nothing was released that might run yet.
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: '59' });
});

test('a stream whose queue stays away says that it waits, and ends without a number for its bill', async () => {
  hurry();
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const edge = unluckyEdge(['delivered', ...Array.from({ length: 20 }, (): Fate => 'lost before')]);
  const submitted = await edge.submit(account.caller, jobRequest(model), new AbortController().signal);
  if (!submitted.ok) throw new Error(submitted.failure.code);
  const reader = submitted.value.events.getReader();
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 3);
  while ((await reader.read()).value?.type !== 'tokens');
  await crash(model);
  let numWaits = 0;
  const error = await (async () => {
    for (;;) if ((await reader.read()).value?.type === 'waiting') numWaits += 1;
  })().catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ failure: { code: 'answer_lost', reason: expect.stringContaining('after 3 tokens') } });
  expect(numWaits).toBe(RETRY_MS.filter((ms) => ms > 0).length);
});

test('what is admitted and does not reach its queue is answered with the id that its ledger row will have', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const edge = unluckyEdge(Array(8).fill('lost before'));
  hurry();
  const lost = await edge.submit(account.caller, jobRequest(model), new AbortController().signal);
  expect(lost).toMatchObject({ ok: false, failure: { code: 'answer_lost' } });
  const { reservations } = await env.ACCOUNT.getByName(account.id).ledgerPage(0, 10);
  expect(reservations.map(({ jobId }) => jobId)).toEqual([lost.headers['x-request-id']]);
});

test('a refusal of the queue is not hidden by a ledger that does not answer', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const full = Response.json({ failure: { code: 'queue_full', depth: 1, retryAfterS: 2 } }, { status: 429 });
  const getByName = (name: string) =>
    new Proxy(env.ACCOUNT.getByName(name), {
      get: (stub, method: 'admit' | 'release') =>
        method === 'admit'
          ? (request: Parameters<typeof stub.admit>[0]) => stub.admit(request)
          : () => Promise.reject(new Error('Network connection lost.')),
    });
  const bindings = {
    ...env,
    ACCOUNT: { getByName } as unknown as typeof env.ACCOUNT,
    QUEUE: { getByName: () => ({ fetch: async () => full }) } as unknown as typeof env.QUEUE,
  };
  const edge = new EdgeService(bindings, new KeyRing(env.KEY_SECRETS), new CardCache(env));
  hurry();
  const refused = await edge.submit(account.caller, jobRequest(model), new AbortController().signal);
  expect(refused).toMatchObject({ ok: false, failure: { code: 'queue_full' } });
});
