/** OpenAI schemas: the fields that the chat and completion routes act on, with their bounds. The rest is in openai-unsupported.ts. */
import { z } from '@hono/zod-openapi';
import { MAX_TOKEN_ID } from '../../core/protocol.ts';

/** A template loops over messages; the body's bound alone would allow 50,000 empty ones. */
export const MAX_MESSAGES = 2048;
/** OpenAI's and TGI's bound. */
export const MAX_STOPS = 4;
/** Text that may begin a stop string is held back from the client; TGI searches its last 300 characters. */
export const MAX_STOP_CHARS = 300;
/** A body of MAX_BODY_BYTES cannot hold more: an id and its comma are two bytes. */
const MAX_PROMPT_IDS = 500_000;
/** OpenAI's bounds of alternatives a token, on chat and on completions. */
const MAX_CHAT_TOP_LOGPROBS = 20;
const MAX_COMPLETION_LOGPROBS = 5;
/** OpenAI's default on completions, which has none on chat. */
export const DEFAULT_COMPLETION_TOKENS = 16;
const MAX_NAME_CHARS = 200;

const stop = z.string().min(1).max(MAX_STOP_CHARS);
const maxTokens = z.int().min(1).nullish();
const tokenIds = z.array(z.int().min(0).max(MAX_TOKEN_ID)).min(1).max(MAX_PROMPT_IDS);

const common = {
  model: z.string().max(MAX_NAME_CHARS).nullish().openapi({ description: 'Absent, null or "tgi": the default model.' }),
  max_tokens: maxTokens,
  temperature: z.number().min(0).max(2).nullish().openapi({ description: '0 is greedy. Default 1.' }),
  top_p: z.number().min(0).max(1).nullish().openapi({ description: '0 is greedy. Default 1.' }),
  top_k: z.int().min(-1).nullish().openapi({ description: 'Extension; 0 and -1 mean all.' }),
  do_sample: z.boolean().nullish().openapi({
    description: 'Extension, as TGI has it: false is greedy where no temperature, top_p or top_k is sent.',
  }),
  seed: z.int().min(0).nullish(),
  stop: z
    .union([stop, z.array(stop).max(MAX_STOPS)], {
      error: `must be a string or up to ${MAX_STOPS} strings, of 1 to ${MAX_STOP_CHARS} characters`,
    })
    .nullish()
    .openapi({ description: 'Left out of the text.' }),
  user: z.string().max(MAX_NAME_CHARS).nullish().openapi({ description: 'Whom the usage is kept under.' }),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  ignore_eos: z.boolean().nullish().openapi({ description: 'Extension: go on after the end of sequence.' }),
};
export type CommonRequest = z.infer<z.ZodObject<typeof common>>;

const Part = z.object({ type: z.string(), text: z.string().optional() });
const Message = z
  .looseObject({
    role: z.enum(['system', 'developer', 'user', 'assistant', 'tool', 'function'], {
      error: 'must be system, developer, user or assistant',
    }),
    content: z
      .union([z.string(), z.array(Part).max(MAX_MESSAGES)], {
        error: 'must be a string or an array of {"type":"text","text":…} parts',
      })
      .nullish(),
  })
  .openapi('ChatMessage');
export type Message = z.infer<typeof Message>;

export const ChatRequest = z
  .object({
    ...common,
    messages: z.array(Message).min(1).max(MAX_MESSAGES),
    max_completion_tokens: maxTokens.openapi({ description: 'Default: until the context is full.' }),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(MAX_CHAT_TOP_LOGPROBS).nullish(),
  })
  .openapi('ChatCompletionRequest');
export type ChatRequest = z.infer<typeof ChatRequest>;

export const CompletionRequest = z
  .object({
    ...common,
    max_tokens: maxTokens.openapi({ description: `Default ${DEFAULT_COMPLETION_TOKENS}.` }),
    prompt: z
      .union([z.string().min(1), tokenIds, z.array(z.string().min(1)).min(1), z.array(tokenIds).min(1)], {
        error: 'must be a text, an array of token ids, or an array of one of either; none of them empty',
      })
      .openapi({ description: 'One text or one array of token ids.' }),
    logprobs: z.int().min(0).max(MAX_COMPLETION_LOGPROBS).nullish(),
  })
  .openapi('CompletionRequest');
export type CompletionRequest = z.infer<typeof CompletionRequest>;

export const UsageBody = z
  .object({
    prompt_tokens: z.int(),
    completion_tokens: z.int(),
    total_tokens: z.int(),
    prompt_tokens_details: z.object({ cached_tokens: z.int() }),
    cost_usd: z.number(),
  })
  .openapi('Usage');

const answer = { id: z.string(), created: z.int(), model: z.string(), system_fingerprint: z.string().nullable() };
const finishReason = z.enum(['stop', 'length']);
export const ChatCompletion = z
  .object({
    ...answer,
    object: z.literal('chat.completion'),
    choices: z.array(
      z.object({
        index: z.int(),
        message: z.object({ role: z.literal('assistant'), content: z.string(), refusal: z.null() }),
        logprobs: z.looseObject({}).nullable(),
        finish_reason: finishReason,
      }),
    ),
    usage: UsageBody,
  })
  .openapi('ChatCompletion');
export const Completion = z
  .object({
    ...answer,
    object: z.literal('text_completion'),
    choices: z.array(
      z.object({
        index: z.int(),
        text: z.string(),
        logprobs: z.looseObject({}).nullable(),
        finish_reason: finishReason,
      }),
    ),
    usage: UsageBody,
  })
  .openapi('Completion');
