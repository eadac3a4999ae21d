/** OpenAI answer: what chat and completions share from the submission to the last byte. */
import type { FinishReason, TokenOut } from '../../core/protocol.ts';
import { EVENT_STREAM_HEADERS, eventStream } from './event-stream.ts';
import { JobReader, LEASE_WAIT_MS } from './job-reader.ts';
import type { Asked } from './openai-request.ts';
import { type ChunkFormat, chunkEncoder } from './openai-stream.ts';
import { logInternal, refuse } from './refusal.ts';
import { type ApiContext, readJson, submit } from './request.ts';
import { invalidHeader, retryOf } from './retry.ts';
import type { Outcome, Usage } from './service.ts';
import { decimalUsd, numberUsd } from './usd.ts';

/** What every body and chunk of one answer begins with. */
export interface Head {
  id: string;
  created: number;
  model: string;
}

/** One of the two routes' shapes. */
export interface AnswerFormat {
  idPrefix: string;
  object: string;
  choice(text: string, tokens: TokenOut[] | null, finishReason: string): object;
  /** A fresh one for each stream: it may count. */
  chunks(logprobs: boolean): ChunkFormat;
}

/** Answers a body: `read` makes a job of it, with a seed for when it names none. */
export async function answer(
  c: ApiContext,
  read: (body: unknown, seed: number) => Outcome<Asked>,
  format: AnswerFormat,
): Promise<Response> {
  const body = await readJson(c.req.raw);
  if (!body.ok) return refuse(c, body.failure);
  const retry = await retryOf(c, body.value);
  if (!retry.ok) return refuse(c, retry.failure);
  const { idempotency, resumeFrom, seed } = retry.value;
  const outcome = read(body.value, seed);
  if (!outcome.ok) return refuse(c, outcome.failure);
  const asked = outcome.value;
  if (resumeFrom !== null && !asked.stream)
    return refuse(c, invalidHeader('Last-Event-ID', 'only with stream: true').failure);
  const submitted = await submit(c, asked.job, { user: asked.user, idempotency });
  if (!submitted.ok) return refuse(c, submitted.failure);
  const { jobId, model, createdS, events } = submitted.value;
  const head = { id: `${format.idPrefix}${jobId}`, created: createdS, model };
  const job = new JobReader(events);
  return asked.stream ? stream(c, job, head, asked, format, resumeFrom) : whole(c, job, head, asked, format);
}

async function whole(c: ApiContext, job: JobReader, head: Head, asked: Asked, format: AnswerFormat): Promise<Response> {
  const { end, tokens, text } = await job.collect();
  if (end.type === 'cut') return refuse(c, { code: 'answer_lost', reason: end.reason });
  if (end.type === 'failed') return refuse(c, end.failure);
  answerHeaders(c, end.backend, end.usage);
  return c.json({
    ...head,
    object: format.object,
    system_fingerprint: fingerprint(end.backend),
    choices: [format.choice(text, asked.logprobs ? tokens : null, finishReasonOf(end.reason))],
    usage: usageBody(end.usage),
  });
}

/** A failure before the first token is a status; after that it is an event. */
async function stream(
  c: ApiContext,
  job: JobReader,
  head: Head,
  asked: Asked,
  format: AnswerFormat,
  resumeFrom: number | null,
): Promise<Response> {
  const first = await job.first(LEASE_WAIT_MS);
  if (first?.type === 'failed') return refuse(c, first.failure);
  if (first?.type === 'cut') return refuse(c, { code: 'answer_lost', reason: first.reason });
  if (first?.type === 'started') c.header('x-nibble-backend', first.backend);
  const { requestId } = c.var;
  const encode = chunkEncoder(head, format.chunks(asked.logprobs), asked, requestId);
  const onInternal = (reason: string) => logInternal(requestId, { code: 'internal', reason });
  return c.body(eventStream(job, first, encode, resumeFrom, onInternal), 200, EVENT_STREAM_HEADERS);
}

/** Who answered and what it cost, as headers. */
export function answerHeaders(c: ApiContext, backend: string, usage: Usage): void {
  c.header('x-nibble-backend', backend);
  c.header('x-nibble-cost-usd', decimalUsd(usage.costPicoUsd));
}

export function usageBody(usage: Usage) {
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.completionTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens },
    cost_usd: numberUsd(usage.costPicoUsd),
  };
}

/** OpenAI has one name for an end of sequence and a stop string. */
export function finishReasonOf(reason: FinishReason): 'stop' | 'length' {
  return reason === 'length' ? 'length' : 'stop';
}

/** What a seed's answer depends on beside the seed. */
export function fingerprint(backend: string | null): string | null {
  return backend === null ? null : `nibble-${backend}`;
}
