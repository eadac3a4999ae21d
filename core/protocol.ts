/** Protocol: what edge and worker say to each other over the link, as schemas. JSON text messages; every message is checked on receipt. */
import { z } from 'zod';
import type { Failure } from './errors.ts';

/** Raised when a message changes meaning; a worker that announces another number is refused by name. */
export const PROTOCOL_VERSION = 2;

/** A prompt may be as large as a request's body (1 MB) and JSON may double it; nothing legitimate is longer. */
export const MAX_LINK_MESSAGE_BYTES = 4_000_000;
/** Bound of ids, names and roles: long enough for a Hub id with revision, short enough to log. */
const name = z.string().min(1).max(200);
const count = z.int().min(0);
/** Far above any vocabulary. */
export const MAX_TOKEN_ID = 2 ** 24;
const tokenId = z.int().min(0).max(MAX_TOKEN_ID);
/** No vocabulary's piece, nor what a stop string held back, is longer; a stored row of them must stay under 2 MB. */
const tokenText = z.string().max(8192);
/** A context of it, for prompt and for answer, at the highest price is a cost that a double still holds exactly. */
const MAX_CONTEXT_TOKENS = 2 ** 22;

/** OpenAI and TGI both allow at most 4 of them; 20 leaves room for others. */
export const MAX_STOP_STRINGS = 20;
/** The most alternatives per token that OpenAI allows. */
export const MAX_TOP_LOGPROBS = 20;

export const Input = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('text'), text: z.string(), specialTokens: z.enum(['add', 'none']) }),
  z.object({ kind: z.literal('ids'), ids: z.array(tokenId) }),
  z.object({ kind: z.literal('chat'), messages: z.array(z.object({ role: name, content: z.string() })).min(1) }),
]);
export type Input = z.infer<typeof Input>;

export const Sampling = z.object({
  /** 0 is greedy: the most likely token, the lowest id among equals. null here and below: as the model's generation_config.json says, else 1. */
  temperature: z.number().min(0).nullable(),
  /** 0 means all; null: the model's, else all. */
  topK: count.nullable(),
  /** 1 means all; null: the model's, else all. */
  topP: z.number().gt(0).max(1).nullable(),
  /** Draws are keyed by (seed, position), so a resumed job draws the same. */
  seed: z.int().min(0),
});
export type Sampling = z.infer<typeof Sampling>;

export const Job = z.object({
  id: name,
  model: name,
  input: Input,
  sampling: Sampling,
  /** null: until the context is full. */
  maxNewTokens: z.int().min(1).nullable(),
  /** Keep only the last so many prompt tokens; null keeps all. */
  truncatePromptTokens: z.int().min(1).nullable(),
  stop: z.array(z.string().min(1)).max(MAX_STOP_STRINGS),
  /** Whether the stop string stays in the text (TGI) or not (OpenAI). */
  stopText: z.enum(['keep', 'drop']),
  /** Whether the model's end-of-sequence ids end the answer. */
  eos: z.enum(['stop', 'ignore']),
  topLogprobs: z.int().min(0).max(MAX_TOP_LOGPROBS),
  /** What the ledger reserved for the prompt; a longer one ends the job unbilled. */
  promptTokenLimit: count,
});
export type Job = z.infer<typeof Job>;

const failure = z.custom<Failure>(
  (value) => typeof value === 'object' && value !== null && 'code' in value && typeof value.code === 'string',
);

export const TokenOut = z.object({
  id: tokenId,
  /** Natural log of its probability under the model's own distribution, before temperature and cuts. */
  logprob: z.number().nullable(),
  /** Text that became certain with this token: whole characters only, and nothing that may be the start of a stop string. */
  text: tokenText,
  special: z.boolean(),
  top: z.array(z.object({ id: tokenId, text: tokenText, logprob: z.number().nullable() })).max(MAX_TOP_LOGPROBS),
});
export type TokenOut = z.infer<typeof TokenOut>;

export const FinishReason = z.enum(['eos', 'length', 'stop']);
export type FinishReason = z.infer<typeof FinishReason>;

const ofLease = { jobId: name, epoch: z.int().min(1) };
/** Far above any worker's slots. */
const MAX_LEASES = 4096;
/** Queues of one model. Each has every worker's socket, and one carries thousands of tokens a second. */
export const MAX_SHARDS = 64;
/** A lease that a worker holds when it says hello. `from`: it can send its frames from this place of the answer on. */
const HeldLease = z.object({ ...ofLease, from: count });
export type HeldLease = z.infer<typeof HeldLease>;

/** What one engine step did for one job. `from` is the place of the first token among the answer's tokens. */
export const Frame = z.discriminatedUnion('kind', [
  z.object({ ...ofLease, kind: z.literal('started'), promptTokens: count, cachedTokens: count }),
  z.object({ ...ofLease, kind: z.literal('tokens'), from: count, tokens: z.array(TokenOut).min(1) }),
  /** `text`: what was still held back. `tokens`: the worker's own count of the answer. */
  z.object({ ...ofLease, kind: z.literal('finished'), reason: FinishReason, tokens: count, text: tokenText }),
  z.object({ ...ofLease, kind: z.literal('failed'), failure }),
]);
export type Frame = z.infer<typeof Frame>;

/** What the edge must know of a model to list it, admit requests and bound their cost. */
export const ModelCard = z.object({
  id: name,
  architecture: z.string().max(200),
  quantization: z.string().max(200).nullable(),
  contextTokens: z.int().min(1).max(MAX_CONTEXT_TOKENS),
  vocabSize: z.int().min(1),
  parameters: count,
  /** Upper bound of tokens for one byte of prompt, and for the text as a whole beside it (specials, added prefix). */
  maxTokensPerByte: z.number().gt(0),
  textOverheadTokens: count,
  /** Upper bounds of what the chat template adds; null when the model has none. */
  chat: z.object({ baseTokens: count, perMessageTokens: count }).nullable(),
});
export type ModelCard = z.infer<typeof ModelCard>;

/** `edge-wasm` is the edge's own fallback. */
export const WorkerBackend = z.enum(['reference', 'wasm', 'webgpu', 'cuda', 'edge-wasm']);
export type WorkerBackend = z.infer<typeof WorkerBackend>;

export const WorkerMessage = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('hello'),
    protocol: z.int(),
    workerId: name,
    backend: WorkerBackend,
    model: ModelCard,
    /** Leases this socket takes at once; the sum over a worker's sockets never exceeds its slots. */
    credits: z.int().min(0).max(MAX_LEASES),
    /** From before its link was lost, running or ended. Each is answered by `kept` or `cancel`; until then no frame of it is sent. Workers of protocol 1 name none, and are refused by their number. */
    leases: z.array(HeldLease).max(MAX_LEASES).default([]),
  }),
  z.object({ type: z.literal('frames'), frames: z.array(Frame).min(1).max(4096) }),
  /** No new leases: finish what runs, then close. */
  z.object({ type: z.literal('draining') }),
  /** Leases that this socket takes at once from now on. Answered by the same, after which no lease beyond it is on its way. */
  z.object({ type: z.literal('credits'), credits: z.int().min(0).max(MAX_LEASES) }),
]);
export type WorkerMessage = z.infer<typeof WorkerMessage>;

export const EdgeMessage = z.discriminatedUnion('type', [
  /** `shards`: queues that the model has; a worker connects to each. */
  z.object({
    type: z.literal('welcome'),
    protocol: z.int(),
    heartbeatMs: z.int().min(1000),
    shards: z.int().min(1).max(MAX_SHARDS),
  }),
  /** The socket is closed after this. */
  z.object({ type: z.literal('refused'), failure }),
  /** `emittedIds`: the answer so far, from an earlier lease; go on after it. */
  z.object({ type: z.literal('lease'), job: Job, epoch: z.int().min(1), emittedIds: z.array(tokenId) }),
  /** Stop within one step; no frame is expected. */
  z.object({ type: z.literal('cancel'), ...ofLease }),
  /** The lease goes on, after a loss of the link or of the queue's memory: `tokens` were accepted, and the frames after them are sent again. */
  z.object({ type: z.literal('kept'), ...ofLease, tokens: count }),
  /** The first `tokens` tokens are stored; the worker need not keep their frames. */
  z.object({ type: z.literal('ack'), ...ofLease, tokens: count }),
  /** The job's end is stored; the worker may forget the lease. */
  z.object({ type: z.literal('ended'), ...ofLease }),
  z.object({ type: z.literal('credits'), credits: count }),
  /** Jobs that wait here for room at a worker: reason to move credits to this queue from others. */
  z.object({ type: z.literal('demand'), waiting: count }),
]);
export type EdgeMessage = z.infer<typeof EdgeMessage>;

/** Sent as plain text and answered by the socket's auto-response, so that an idle heartbeat does not wake the object. */
export const PING = 'ping';
export const PONG = 'pong';

/** A message from outside: its size first, then its JSON, then its shape. Returns the failure instead of throwing. */
export function parseMessage<Schema extends z.ZodType>(
  schema: Schema,
  text: string,
): { ok: true; value: z.infer<Schema> } | { ok: false; failure: Failure } {
  if (text.length > MAX_LINK_MESSAGE_BYTES)
    return { ok: false, failure: { code: 'body_too_large', limitBytes: MAX_LINK_MESSAGE_BYTES } };
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    return { ok: false, failure: { code: 'invalid_json', reason: (error as Error).message } };
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return { ok: true, value: parsed.data };
  const issue = parsed.error.issues[0];
  const param = issue?.path.join('.') || null;
  return {
    ok: false,
    failure: { code: 'invalid_request', param, reason: `${param ?? 'message'}: ${issue?.message ?? 'invalid'}` },
  };
}
