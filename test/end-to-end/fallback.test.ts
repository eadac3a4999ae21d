import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DEMO, nibble, RunningEdge } from './running-edge.ts';
import { sseData } from './sse.ts';

let edge: RunningEdge;
beforeAll(async () => {
  edge = await RunningEdge.start(['--no-worker']);
});
afterAll(async () => {
  await edge?.stop();
});

const QUESTION = 'Tell me a story about a fox named Milo';
const SAMPLING = { temperature: 0.8, seed: 42, max_tokens: 150 };
const body = () => ({ model: edge.models[0], messages: [{ role: 'user', content: QUESTION }], ...SAMPLING });

async function ask() {
  const response = await edge.post('/v1/chat/completions', body());
  expect(response.status).toBe(200);
  const answer = await response.json();
  const backend = response.headers.get('x-nibble-backend');
  const requestId = response.headers.get('x-request-id')!;
  return { answer, backend, requestId, text: answer.choices[0].message.content as string };
}

describe('an edge without a worker', () => {
  test('answers with the text that the wasm backend gives on this machine for the same seed', async () => {
    const { answer, backend, requestId, text } = await ask();
    expect(backend).toBe('edge-wasm');
    const flags = ['--temperature', '0.8', '--seed', '42', '--max-new-tokens', '150', '--head-bits', '8', '--json'];
    const local = await nibble(['generate', '--model-id', DEMO, '--chat', QUESTION, '--backend', 'wasm', ...flags]);
    expect([local.code, local.stderr]).toEqual([0, '']);
    expect(text).toBe(JSON.parse(local.stdout).text);
    expect(await edge.usageOf(requestId)).toMatchObject({
      model: edge.models[0],
      backend: 'edge-wasm',
      status: 'completed',
      prompt_tokens: answer.usage.prompt_tokens,
      completion_tokens: answer.usage.completion_tokens,
      cost_usd: answer.usage.cost_usd,
    });
  });

  test('streams the same text, and names itself in the last event', async () => {
    const { text } = await ask();
    const asked = { ...body(), stream: true, stream_options: { include_usage: true } };
    const response = await edge.post('/v1/chat/completions', asked);
    let streamed = '';
    let last: { nibble?: { backend: string } } = {};
    for await (const data of sseData(response)) {
      if (data === '[DONE]') break;
      last = JSON.parse(data);
      streamed += JSON.parse(data).choices[0]?.delta?.content ?? '';
    }
    expect(streamed).toBe(text);
    expect(last.nibble).toMatchObject({ backend: 'edge-wasm' });
  });

  test('hands over to a worker that comes, with the same text, and answers again when it is killed', async () => {
    const before = await ask();
    const flags = ['--model-id', DEMO, '--served-model-name', edge.models[0]!, '--head-bits', '8'];
    const worker = await edge.addWorker(flags);
    const served = await ask();
    expect([served.backend, served.text]).toEqual(['wasm', before.text]);
    await worker.end('SIGKILL');
    const after = await ask();
    expect([after.backend, after.text]).toEqual(['edge-wasm', before.text]);
  });
});
