/** Logs: what is asked and answered is in none of them, however a request ends. */
import { exports } from 'cloudflare:workers';
import { afterEach, expect, test, vi } from 'vitest';
import { call, newAccount, newModel } from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';

const PROMPT = 'the-prompt-that-nobody-may-read';
const METHODS = ['log', 'info', 'warn', 'error', 'debug'] as const;

afterEach(() => void vi.restoreAllMocks());

function watched(): () => string {
  const lines: unknown[] = [];
  for (const method of METHODS) vi.spyOn(console, method).mockImplementation((...args) => void lines.push(args));
  return () => JSON.stringify(lines, (_, value) => (value instanceof Error ? String(value.stack) : value));
}

test("prompts, answers, keys and users are in no log; the request's id and status are", async () => {
  const logged = watched();
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const ask = (body: object) => call('POST', '/v1/completions', account.apiKey, { model: model.id, ...body });

  const asked = ask({ prompt: PROMPT, max_tokens: 2, user: `${PROMPT}-user`, stop: [`${PROMPT}-stop`] });
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 2);
  worker.finish(lease, 2);
  const answered = await asked;
  expect(answered.status).toBe(200);
  expect(await answered.text()).toContain(' 0 1');

  const failing = ask({ prompt: PROMPT, max_tokens: 2 });
  const lost = await worker.next('lease');
  worker.frames({
    jobId: lost.job.id,
    epoch: lost.epoch,
    kind: 'failed',
    failure: { code: 'generation_failed', reason: 'a kernel' },
  });
  expect((await failing).status).toBe(500);

  // A chat template may name what it refuses.
  const refusing = ask({ prompt: PROMPT, max_tokens: 2 });
  const refused = await worker.next('lease');
  const failure = { code: 'invalid_request', param: 'messages', reason: `no role may say ${PROMPT}` } as const;
  worker.frames({ jobId: refused.job.id, epoch: refused.epoch, kind: 'failed', failure });
  expect((await refusing).status).toBe(400);

  for (const body of [
    `{"prompt": "${PROMPT}`,
    `{"prompt": ["${PROMPT}", 1]}`,
    `{"prompt":"${PROMPT}","n":"${PROMPT}"}`,
  ]) {
    const headers = { authorization: `Bearer ${account.apiKey}`, 'content-type': 'application/json' };
    const response = await exports.default.fetch(`http://edge/v1/completions?q=${PROMPT}`, {
      method: 'POST',
      headers,
      body,
    });
    expect(response.status).toBe(400);
    await response.text();
  }
  await call('GET', '/v1/models', `nbl_${PROMPT}`);

  expect(logged()).not.toContain(PROMPT);
  expect(logged()).not.toContain(' 0 1');
  expect(logged()).not.toContain(account.apiKey.slice(17));
  expect(logged()).toContain(answered.headers.get('x-request-id'));
  expect(logged()).toContain('a kernel');
});
