/** Requests: what the clients of a chaos run ask, and how each of them behaves, drawn from one seed. */
import { Draws } from './draws.ts';

export type Route = '/v1/chat/completions' | '/v1/completions' | '/generate' | '/generate_stream';

/** One of the distinct requests; several clients may send the same. */
export interface Script {
  route: Route;
  streamed: boolean;
  body: Readonly<Record<string, unknown>>;
}

/** `leave`, `abandon`, `return`: the client drops its connection after so many events or, where it waits for a whole answer, milliseconds. */
export type Behaviour =
  /** Without a key, to the end; a broken answer is asked for anew. */
  | { kind: 'stay' }
  /** With an Idempotency-Key; a broken answer is asked for with the same one. */
  | { kind: 'keyed' }
  /** Without a key, and gone: the job is cancelled. */
  | { kind: 'leave'; after: number }
  /** With a key, and gone for good: the job runs to its end. */
  | { kind: 'abandon'; after: number }
  /** With a key, back after a while: the stream goes on after Last-Event-ID, or from its beginning. */
  | { kind: 'return'; after: number; resume: 'event' | 'beginning'; awayMs: number }
  /** The same key twice at once. */
  | { kind: 'twice' };

export interface Asked {
  index: number;
  script: number;
  behaviour: Behaviour;
  key: string;
}

const ANIMALS = ['fox', 'owl', 'bear', 'hare', 'frog', 'mouse', 'cat', 'dog', 'duck', 'goat'];
const NAMES = ['Milo', 'Luna', 'Pip', 'Ada', 'Otto', 'Nell', 'Finn', 'Ivy', 'Remy', 'Zoë'];
const QUESTIONS = ['Hello', 'What is Nibble?', 'Who are you?', 'How do I start a worker?', 'Tell me a story'];

export function scriptsOf(seed: number, count: number, model: string): Script[] {
  const draws = new Draws(seed, 'scripts');
  return Array.from({ length: count }, () => {
    const route = draws.weighted<Route>({
      '/v1/chat/completions': 4,
      '/v1/completions': 3,
      '/generate': 1,
      '/generate_stream': 2,
    });
    const streamed = route === '/generate_stream' || (route !== '/generate' && draws.chance(0.7));
    return { route, streamed, body: bodyOf(draws, route, streamed, model) };
  });
}

/** Mostly a sentence, now and then a story. */
function lengthOf(draws: Draws): number {
  const size = draws.weighted({ short: 60, middle: 32, long: 8 });
  if (size === 'short') return draws.integer(3, 16);
  return size === 'middle' ? draws.integer(17, 60) : draws.integer(61, 220);
}

function bodyOf(draws: Draws, route: Route, streamed: boolean, model: string): Record<string, unknown> {
  const story = `Tell me a story about a ${draws.pick(ANIMALS)} named ${draws.pick(NAMES)}`;
  const length = lengthOf(draws);
  const seed = draws.integer(0, 2 ** 31);
  const sampled = draws.chance(0.5);
  const stop = draws.chance(0.15) ? draws.pick([[' and'], ['.'], ['the ', '\n'], [' was a']]) : undefined;
  if (route === '/generate' || route === '/generate_stream') {
    const sampling = sampled ? { do_sample: true, temperature: 0.8, top_k: 50 } : { do_sample: false };
    const inputs = draws.chance(0.5) ? 'Once upon a time' : `There was a ${draws.pick(ANIMALS)}`;
    return { model, inputs, parameters: { ...sampling, seed, max_new_tokens: length, details: true, stop } };
  }
  const sampling = sampled ? { temperature: 0.9, top_p: 0.95, seed } : { temperature: 0 };
  const common = {
    model,
    ...sampling,
    max_tokens: length,
    ...(stop !== undefined && { stop }),
    ...(streamed && { stream: true, stream_options: { include_usage: true } }),
    ...(draws.chance(0.3) && { ignore_eos: true }),
  };
  const logprobs = draws.chance(0.4);
  if (route === '/v1/completions')
    return { ...common, prompt: draws.chance(0.5) ? 'Once upon a time' : story, ...(logprobs && { logprobs: 1 }) };
  const content = draws.chance(0.6) ? story : draws.pick(QUESTIONS);
  return { ...common, messages: [{ role: 'user', content }], ...(logprobs && { logprobs: true }) };
}

export function askedOf(seed: number, count: number, scripts: readonly Script[]): Asked[] {
  const draws = new Draws(seed, 'behaviour');
  return Array.from({ length: count }, (_, index) => {
    const script = draws.integer(0, scripts.length - 1);
    const { streamed } = scripts[script]!;
    const after = streamed ? draws.integer(0, 12) : draws.integer(1, 300);
    const kind = draws.weighted<Behaviour['kind']>({ stay: 50, keyed: 20, leave: 8, abandon: 5, return: 13, twice: 4 });
    const resume = streamed && draws.chance(0.75) ? 'event' : 'beginning';
    const awayMs = draws.integer(0, 1500);
    return { index, script, behaviour: behaviourOf(kind, after, resume, awayMs), key: `chaos-${seed}-${index}` };
  });
}

function behaviourOf(kind: Behaviour['kind'], after: number, resume: 'event' | 'beginning', awayMs: number): Behaviour {
  switch (kind) {
    case 'leave':
    case 'abandon':
      return { kind, after };
    case 'return':
      return { kind, after, resume, awayMs };
    default:
      return { kind };
  }
}
