/** Demo model: the shipped int4 model in the test's bucket, and requests for it. */
import { env } from 'cloudflare:workers';
import type { ModelCard } from '../../../core/protocol.ts';
import type { JobEvent, JobRequest } from '../../../edge/api/service.ts';
import type { FallbackPolicy } from '../../../edge/queue/policy.ts';
import { admin, service, type TestAccount } from '../edge-under-test.ts';

const FILES = ['config.json', 'generation_config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];

/** Puts it under a name of its own into the bucket and lets the edge answer for it. Returns the name. */
export async function demoWithFallback(name: string, fallback: FallbackPolicy): Promise<string> {
  for (const file of FILES) {
    const response = await env.DEMO_FILES.fetch(`http://files/${file}`);
    await env.MODELS.put(`models/${name}/${file}`, await response.arrayBuffer());
  }
  await admin('PUT', `/models/${name}`, { fallback });
  return name;
}

/** As the catalog has it. */
export async function cardOf(account: TestAccount, model: string): Promise<ModelCard> {
  const listed = await service.models(account.caller);
  if (!listed.ok) throw new Error(listed.failure.code);
  return listed.value.find(({ id }) => id === model)!;
}

/** A sampled story: another seed gives another one. */
export function storyRequest(model: string, overrides: Partial<JobRequest> = {}): JobRequest {
  return {
    model,
    input: { kind: 'chat', messages: [{ role: 'user', content: 'Tell me a story about a fox named Milo' }] },
    sampling: { temperature: 0.8, topK: null, topP: null, seed: 11 },
    maxNewTokens: 120,
    truncatePromptTokens: null,
    stop: [],
    stopText: 'drop',
    eos: 'ignore',
    topLogprobs: 0,
    ...overrides,
  };
}

export function textOf(events: readonly JobEvent[]): string {
  return events
    .map((event) => {
      if (event.type === 'tokens') return event.tokens.map(({ text }) => text).join('');
      return event.type === 'finished' ? event.text : '';
    })
    .join('');
}

/** Reads until so many tokens came; the rest is still to be read. */
export async function readTokens(reader: ReadableStreamDefaultReader<JobEvent>, tokens: number): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  let seen = 0;
  while (seen < tokens) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`the events ended after ${seen} tokens`);
    if (value.type === 'failed') throw new Error(JSON.stringify(value.failure));
    if (value.type === 'tokens') seen += value.tokens.length;
    if (value.type !== 'waiting') events.push(value);
  }
  return events;
}

/** The rest, to the end. */
export async function readRest(reader: ReadableStreamDefaultReader<JobEvent>): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return events;
    if (value.type !== 'waiting') events.push(value);
  }
}
