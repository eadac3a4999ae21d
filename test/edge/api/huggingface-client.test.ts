/** Hugging Face's own client gets what it expects, from a real port. */
import { InferenceClient, InferenceClientProviderApiError } from '@huggingface/inference';
import { afterEach, expect, it, vi } from 'vitest';
import { answered, KEY, MODEL_ID, type Script, scripted, started, tokens } from './scripted-service.ts';
import { served } from './served.ts';

const messages = [{ role: 'user', content: 'Hi' }];
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  await Promise.all(closing.splice(0).map((close) => close()));
});

async function client(script: Script = {}, key = KEY) {
  const service = scripted(script);
  const { url, close } = await served(service);
  closing.push(close);
  return { hf: new InferenceClient(key, { endpointUrl: url, retry_on_error: false }), service, url };
}

it('textGeneration sends this server’s URL as the model, and gets the default one', async () => {
  const { hf, service } = await client({ steps: answered(' the', ' end') });
  const answer = await hf.textGeneration({
    inputs: 'This is',
    parameters: { max_new_tokens: 5, do_sample: false, return_full_text: false },
  });
  expect(answer.generated_text).toBe(' the end');
  expect(service.requests[0]).toMatchObject({
    model: null,
    input: { kind: 'text', text: 'This is' },
    sampling: { temperature: 0 },
    maxNewTokens: 5,
  });
});

it('chatCompletion reads an answer', async () => {
  const { hf } = await client({ steps: answered('Hel', 'lo') });
  const answer = await hf.chatCompletion({ model: MODEL_ID, messages, max_tokens: 5 });
  expect(answer.choices[0]?.message.content).toBe('Hello');
  expect(answer.usage.total_tokens).toBe(8);
});

it('chatCompletionStream reads chunks', async () => {
  const { hf } = await client({ steps: answered('Hel', 'lo') });
  let text = '';
  for await (const chunk of hf.chatCompletionStream({ messages, max_tokens: 5 }))
    text += chunk.choices[0]?.delta.content ?? '';
  expect(text).toBe('Hello');
});

it('chatCompletionStream throws when the stream is cut, after the text that came', async () => {
  vi.spyOn(console, 'error').mockImplementation(() => {});
  const { hf } = await client({ steps: [started, tokens(0, 'a')] });
  let text = '';
  const read = async () => {
    for await (const chunk of hf.chatCompletionStream({ messages })) text += chunk.choices[0]?.delta.content ?? '';
  };
  await expect(read()).rejects.toThrow('Whether it was billed is not known');
  expect(text).toBe('a');
});

it('throws with the status and our body', async () => {
  const { hf } = await client({}, 'wrong');
  const error = await hf.chatCompletion({ messages }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(InferenceClientProviderApiError);
  expect(error).toMatchObject({ httpResponse: { status: 401, body: { error: { code: 'invalid_api_key' } } } });
});
