import { InferenceClient } from '@huggingface/inference';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RunningEdge } from './running-edge.ts';

let edge: RunningEdge;
let openai: OpenAI;
let inference: InferenceClient;
beforeAll(async () => {
  edge = await RunningEdge.start();
  openai = new OpenAI({ baseURL: `${edge.url}/v1`, apiKey: edge.apiKey, maxRetries: 0 });
  inference = new InferenceClient(edge.apiKey, { endpointUrl: edge.url });
});
afterAll(async () => {
  await edge?.stop();
});

const question = { messages: [{ role: 'user' as const, content: 'What is Nibble?' }], temperature: 0 };

describe('the openai client', () => {
  test('chats, and the stream gives the same text with usage at its end', async () => {
    const model = edge.models[0]!;
    const whole = await openai.chat.completions.create({ model, ...question });
    const text = whole.choices[0]!.message.content!;
    expect(text).toMatch(/Nibble/);
    expect(whole.choices[0]!.finish_reason).toBe('stop');

    let streamed = '';
    let usage: OpenAI.CompletionUsage | null | undefined = null;
    const pieces: string[] = [];
    for await (const chunk of await openai.chat.completions.create({
      model,
      ...question,
      stream: true,
      stream_options: { include_usage: true },
    })) {
      const piece = chunk.choices[0]?.delta.content ?? '';
      if (piece !== '') pieces.push(piece);
      streamed += piece;
      usage = chunk.usage ?? usage;
    }
    expect(streamed).toBe(text);
    expect(pieces.length).toBeGreaterThan(10);
    expect(usage).toMatchObject({
      prompt_tokens: whole.usage!.prompt_tokens,
      completion_tokens: whole.usage!.completion_tokens,
    });
  });

  test('completes a prompt, with a stop string that stays out of the text', async () => {
    const model = edge.models[0]!;
    const whole = await openai.completions.create({
      model,
      prompt: 'Once upon a time',
      temperature: 0,
      max_tokens: 40,
    });
    expect(whole.usage).toMatchObject({ completion_tokens: 40 });
    const word = whole.choices[0]!.text.trim().split(/\s+/)[3]!;
    const stopped = await openai.completions.create({
      model,
      prompt: 'Once upon a time',
      temperature: 0,
      max_tokens: 40,
      stop: [word],
    });
    expect(stopped.choices[0]!.text).toBe(whole.choices[0]!.text.slice(0, whole.choices[0]!.text.indexOf(word)));
    expect(stopped.choices[0]!.finish_reason).toBe('stop');
  });

  test('a seed repeats a sampled answer, another seed gives another', async () => {
    const ask = async (seed: number) => {
      const answer = await openai.chat.completions.create({
        model: edge.models[0]!,
        messages: [{ role: 'user', content: 'Tell me a story' }],
        temperature: 1,
        seed,
        max_tokens: 60,
      });
      return answer.choices[0]!.message.content;
    };
    const [first, again, other] = [await ask(1), await ask(1), await ask(2)];
    expect(again).toBe(first);
    expect(other).not.toBe(first);
  });

  test('gives log probabilities', async () => {
    const answer = await openai.chat.completions.create({
      model: edge.models[0]!,
      ...question,
      max_tokens: 4,
      logprobs: true,
      top_logprobs: 2,
    });
    const tokens = answer.choices[0]!.logprobs!.content!;
    expect(tokens).toHaveLength(4);
    for (const { token, logprob, top_logprobs } of tokens) {
      expect(top_logprobs[0]).toMatchObject({ token, logprob });
      expect(logprob).toBeLessThanOrEqual(0);
    }
  });

  test('lists models, and errors are its own classes', async () => {
    const ids: string[] = [];
    for await (const { id } of openai.models.list()) ids.push(id);
    expect(ids).toEqual(edge.models);
    await expect(openai.chat.completions.create({ model: 'no-such-model', ...question })).rejects.toBeInstanceOf(
      OpenAI.NotFoundError,
    );
    const stranger = new OpenAI({ baseURL: `${edge.url}/v1`, apiKey: `${edge.apiKey.slice(0, -1)}!`, maxRetries: 0 });
    await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  });
});

describe('the @huggingface/inference client', () => {
  test('generates text', async () => {
    const { generated_text } = await inference.textGeneration({
      inputs: 'Once upon a time',
      parameters: { max_new_tokens: 30 },
    });
    expect(generated_text.length).toBeGreaterThan(20);
  });

  test('chats, whole and as a stream', async () => {
    const whole = await inference.chatCompletion({ ...question, max_tokens: 120 });
    let streamed = '';
    for await (const chunk of inference.chatCompletionStream({ ...question, max_tokens: 120 }))
      streamed += chunk.choices[0]?.delta.content ?? '';
    expect(streamed).toBe(whole.choices[0]!.message.content);
    expect(streamed).toMatch(/Nibble/);
  });
});
