/** Resume: an answer that was cut anywhere goes on in another engine with the events that the first one would have had. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Engine, type EngineEvent } from '../../../core/engine/engine.ts';
import type { Job, TokenOut } from '../../../core/protocol.ts';
import type { LoadedModel } from '../../../gpu-worker/loader.ts';
import { loadDemo } from '../../gpu-worker/demo-model.ts';

type End = Extract<EngineEvent, { kind: 'finished' }>;

const base: Job = {
  id: 'job',
  model: 'demo',
  input: { kind: 'text', text: 'Once upon a time', specialTokens: 'add' },
  sampling: { temperature: 0, topK: 0, topP: 1, seed: 5 },
  maxNewTokens: 40,
  truncatePromptTokens: null,
  stop: [],
  stopText: 'drop',
  eos: 'stop',
  topLogprobs: 0,
  promptTokenLimit: 1000,
};

const models: LoadedModel[] = [];
let first: Engine;
let second: Engine;
let small: Engine;

async function newEngine(maxCachedTokens: number): Promise<Engine> {
  const model = await loadDemo('gptq-int4', 'wasm');
  models.push(model);
  const { graph, tokenizer, template } = model;
  return new Engine(graph, tokenizer, template, { maxSequences: 4, maxBatchTokens: 64, maxCachedTokens });
}

beforeAll(async () => {
  first = await newEngine(512);
  second = await newEngine(512);
  small = await newEngine(32);
});
afterAll(async () => {
  for (const { backend } of models) await backend.dispose();
});

async function run(engine: Engine, job: Job, emittedIds: readonly number[]) {
  const accepted = engine.add(job, emittedIds);
  if ('code' in accepted) throw new Error(`refused: ${JSON.stringify(accepted)}`);
  const tokens: TokenOut[] = [];
  let end: End | null = null;
  while (engine.numJobs > 0)
    for (const event of await engine.step()) {
      if (event.kind === 'failed') throw new Error(JSON.stringify(event.failure));
      if (event.kind === 'finished') end = event;
      else {
        expect(event.from).toBe(emittedIds.length + tokens.length);
        tokens.push(event.token);
      }
    }
  return { tokens, end };
}

const CASES: Record<string, Partial<Job>> = {
  'greedy, to its length': {},
  'sampled, with logprobs': { sampling: { temperature: 0.9, topK: 0, topP: 0.95, seed: 7 }, topLogprobs: 3 },
  // At this temperature the model draws bytes that are parts of characters, which hold text back.
  'sampled so hot that characters come in pieces': {
    sampling: { temperature: 60, topK: 0, topP: 1, seed: 3 },
    eos: 'ignore',
  },
  'a stop string that is dropped': { stop: ['y day, Mol'], maxNewTokens: 60 },
  'a stop string that is kept': { stop: ['ly'], stopText: 'keep', maxNewTokens: 60 },
};

describe.each(Object.entries(CASES))('%s', (_, overrides) => {
  test('cut after any token, tokens, probabilities and texts are those of the whole answer', async () => {
    const job = { ...base, ...overrides };
    const whole = await run(first, job, []);
    expect(whole.tokens.length).toBeGreaterThan(3);
    const ids = whole.tokens.map(({ id }) => id);
    for (let cut = 0; cut <= ids.length; cut++) {
      const rest = await run(second, job, ids.slice(0, cut));
      expect(rest.tokens, `cut after ${cut}`).toEqual(whole.tokens.slice(cut));
      expect(rest.end, `cut after ${cut}`).toEqual(whole.end);
    }
  });
});

test('the cases are what they say', async () => {
  const of = (name: keyof typeof CASES) => run(first, { ...base, ...CASES[name] }, []);
  expect((await of('a stop string that is dropped')).end?.reason).toBe('stop');
  expect((await of('a stop string that is kept')).end?.reason).toBe('stop');
  const hot = await of('sampled so hot that characters come in pieces');
  expect(hot.tokens.some(({ text, special }) => text === '' && !special)).toBe(true);
});

test('an answer that ended with the end of sequence has only its end', async () => {
  const eos = models[0]!.graph.config.eosTokenIds[0]!;
  const { tokens, end } = await run(first, base, [5, 6, eos]);
  expect(tokens).toEqual([]);
  expect(end).toMatchObject({ reason: 'eos', tokens: 3 });
});

test('an answer that filled a larger context than this engine has ends by its length', async () => {
  const { tokens, end } = await run(small, { ...base, maxNewTokens: null }, Array(40).fill(5));
  expect(tokens).toEqual([]);
  expect(end).toMatchObject({ reason: 'length', tokens: 40 });
});
