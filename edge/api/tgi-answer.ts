/** TGI answer: /generate's body and headers. */
import type { TokenOut } from '../../core/protocol.ts';
import { answerHeaders } from './openai-answer.ts';
import { codePoints } from './openai-logprobs.ts';
import type { ApiContext } from './request.ts';
import type { JobEvent } from './service.ts';

export type Finished = Extract<JobEvent, { type: 'finished' }>;

/** How the answer is to look, beside the job. */
export interface TgiAsked {
  /** Written before the generated text: the prompt for `return_full_text`, else ''. */
  prefix: string;
  details: boolean;
  topTokens: boolean;
  /** null: until the context is full. */
  maxNewTokens: number | null;
  /** null when greedy. */
  seed: number | null;
}

/** Milliseconds since the epoch at which a request reached its stages. */
export interface Times {
  receivedMs: number;
  queuedMs: number;
  startedMs: number;
  finishedMs: number;
}

/** TGI looks at the length first: an end that comes as the very last token asked for is "length". */
export function tgiFinishReason(
  { reason, usage }: Pick<Finished, 'reason' | 'usage'>,
  maxNewTokens: number | null,
): 'length' | 'eos_token' | 'stop_sequence' {
  if (usage.completionTokens === maxNewTokens) return 'length';
  switch (reason) {
    case 'length':
      return 'length';
    case 'eos':
      return 'eos_token';
    case 'stop':
      return 'stop_sequence';
    default:
      return reason satisfies never;
  }
}

export const tgiToken = ({ id, text, logprob, special }: Omit<TokenOut, 'top'>) => ({ id, text, logprob, special });
/** Alternatives carry no `special`; the token that was drawn lends its own. */
export const tgiTopTokens = (token: TokenOut) =>
  token.top.map((top) => tgiToken({ ...top, special: top.id === token.id && token.special }));

export function generateResponse(asked: TgiAsked, text: string, tokens: TokenOut[], finished: Finished): object {
  const details = {
    finish_reason: tgiFinishReason(finished, asked.maxNewTokens),
    generated_tokens: finished.usage.completionTokens,
    seed: asked.seed,
    // TGI fills it only where it was started with --enable-prefill-logprobs.
    prefill: [],
    tokens: tokens.map(tgiToken),
    ...(asked.topTokens ? { top_tokens: tokens.map(tgiTopTokens) } : {}),
  };
  return { generated_text: asked.prefix + text, ...(asked.details ? { details } : {}) };
}

/** TGI's headers of a whole answer; billing gateways read the token counts. */
export function generateHeaders(c: ApiContext, inputs: string, finished: Finished, times: Times): void {
  const { receivedMs, queuedMs, startedMs, finishedMs } = times;
  const { promptTokens, completionTokens } = finished.usage;
  const inferenceMs = finishedMs - startedMs;
  answerHeaders(c, finished.backend, finished.usage);
  computeHeaders(c, inputs, finished.backend);
  c.header('x-compute-time', String((finishedMs - receivedMs) / 1000));
  c.header('x-total-time', String(finishedMs - receivedMs));
  c.header('x-validation-time', String(queuedMs - receivedMs));
  c.header('x-queue-time', String(startedMs - queuedMs));
  c.header('x-inference-time', String(inferenceMs));
  c.header('x-time-per-token', String(Math.round(inferenceMs / Math.max(1, completionTokens))));
  c.header('x-prompt-tokens', String(promptTokens));
  c.header('x-generated-tokens', String(completionTokens));
}

/** What whole answers and streams both have. `backend` is null while no worker has the job. */
export function computeHeaders(c: ApiContext, inputs: string, backend: string | null): void {
  if (backend !== null) c.header('x-compute-type', backend);
  c.header('x-compute-characters', String(codePoints(inputs)));
}
