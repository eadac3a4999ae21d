/** Answer: what a client received of one response, in pieces that can be compared one by one, and how it ended. */
import type { Route, Script } from './requests.ts';

/** `pieces`: a token each where the surface tells tokens apart, so that a lost or repeated one shows by itself. */
export interface Received {
  pieces: string[];
  text: string;
  finishReason: string | null;
  /** As the answer's own usage says. */
  completionTokens: number | null;
  /** Of the last event that had one. */
  lastEventId: string | null;
  end:
    | { kind: 'finished' }
    /** The edge said by name why there is no more. */
    | { kind: 'failed'; code: string }
    /** The response stopped without an end. */
    | { kind: 'cut'; reason: string };
}

export function nothing(): Received {
  const end = { kind: 'cut', reason: 'nothing was received' } as const;
  return { pieces: [], text: '', finishReason: null, completionTokens: null, lastEventId: null, end };
}

interface SseEvent {
  id: string | null;
  data: string;
}

/** Reads a stream into `received`, which may hold what an earlier response brought. `onEvent` false: the client leaves now. */
export async function readStream(
  response: Response,
  { route }: Script,
  received: Received,
  onEvent: () => boolean,
): Promise<void> {
  received.end = { kind: 'cut', reason: 'the stream stopped' };
  for await (const { id, data } of events(response)) {
    if (id !== null) received.lastEventId = id;
    if (data === '[DONE]') received.end = { kind: 'finished' };
    else {
      const body = JSON.parse(data);
      if (body.error !== undefined) received.end = { kind: 'failed', code: body.error.code ?? body.error_type };
      else addChunk(route, body, received);
    }
    if (!onEvent()) return;
  }
}

/** A whole answer. */
export function readWhole(route: Route, body: Record<string, never>, received: Received): void {
  if (route === '/generate') {
    const { generated_text, details } = body as unknown as TgiAnswer;
    received.text = generated_text;
    received.pieces = details.tokens.map(tgiPiece);
    received.finishReason = details.finish_reason;
    received.completionTokens = details.generated_tokens;
  } else {
    const { choices, usage } = body as unknown as OpenAiAnswer;
    const choice = choices[0]!;
    received.text = choice.text ?? choice.message?.content ?? '';
    received.pieces = choice.logprobs ? logprobPieces(choice.logprobs) : [received.text];
    received.finishReason = choice.finish_reason;
    received.completionTokens = usage!.completion_tokens;
  }
  received.end = { kind: 'finished' };
}

interface TgiToken {
  id: number;
  text: string;
  logprob: number | null;
}
interface TgiAnswer {
  generated_text: string;
  details: { finish_reason: string; generated_tokens: number; tokens: TgiToken[] };
}
interface Logprobs {
  content?: { token: string; logprob: number }[];
  tokens?: string[];
  token_logprobs?: number[];
}
interface OpenAiAnswer {
  choices: {
    text?: string;
    message?: { content: string };
    delta?: { content?: string };
    logprobs: Logprobs | null;
    finish_reason: string | null;
  }[];
  usage?: { completion_tokens: number } | null;
}

function addChunk(route: Route, body: unknown, received: Received): void {
  if (route === '/generate_stream') {
    const { token, generated_text, details } = body as {
      token: TgiToken;
      generated_text: string | null;
      details: TgiAnswer['details'] | null;
    };
    received.pieces.push(tgiPiece(token));
    received.text += token.text;
    if (generated_text === null) return;
    // The whole text comes with the last token; what came in pieces must be the same.
    if (generated_text !== received.text)
      received.pieces.push(`but the whole text is ${JSON.stringify(generated_text)}`);
    received.finishReason = details!.finish_reason;
    received.completionTokens = details!.generated_tokens;
    received.end = { kind: 'finished' };
    return;
  }
  const { choices, usage } = body as OpenAiAnswer;
  if (usage != null) received.completionTokens = usage.completion_tokens;
  const choice = choices[0];
  if (choice === undefined) return;
  if (choice.finish_reason !== null) received.finishReason = choice.finish_reason;
  const text = choice.text ?? choice.delta?.content ?? '';
  received.text += text;
  if (choice.logprobs) received.pieces.push(...logprobPieces(choice.logprobs));
  else if (text !== '') received.pieces.push(text);
}

const tgiPiece = ({ id, text, logprob }: TgiToken) => `${id} ${text} ${logprob}`;

function logprobPieces({ content, tokens, token_logprobs }: Logprobs): string[] {
  if (content !== undefined) return content.map(({ token, logprob }) => `${token} ${logprob}`);
  return (tokens ?? []).map((token, index) => `${token} ${token_logprobs![index]}`);
}

async function* events(response: Response): AsyncGenerator<SseEvent, void> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const bytes of response.body!) {
    rest += decoder.decode(bytes, { stream: true });
    const blocks = rest.split('\n\n');
    rest = blocks.pop()!;
    for (const block of blocks) {
      const fields = block.split('\n');
      const value = (name: string) =>
        fields
          .filter((line) => line.startsWith(`${name}:`))
          .map((line) => line.slice(name.length + 1).replace(/^ /, ''));
      const data = value('data');
      if (data.length > 0) yield { id: value('id').at(-1) ?? null, data: data.join('\n') };
    }
  }
}

/** How `got` differs from what was expected: pieces that are missing, and pieces too many. */
export function compare(expected: readonly string[], got: readonly string[]): { lost: number; duplicated: number } {
  let begin = 0;
  while (begin < expected.length && begin < got.length && expected[begin] === got[begin]) begin += 1;
  const [a, b] = [expected.slice(begin), got.slice(begin)];
  // The longest common subsequence of what is left.
  let row = new Array<number>(b.length + 1).fill(0);
  for (const piece of a) {
    const next = [0];
    for (let at = 0; at < b.length; at++) next.push(piece === b[at] ? row[at]! + 1 : Math.max(row[at + 1]!, next[at]!));
    row = next;
  }
  const common = row.at(-1)!;
  return { lost: a.length - common, duplicated: b.length - common };
}
