/** OpenAI request: a body of the chat or completion route as a job request. */
import type { z } from '@hono/zod-openapi';
import type { Failure } from '../../core/errors.ts';
import type { Sampling } from '../../core/protocol.ts';
import {
  ChatRequest,
  type CommonRequest,
  CompletionRequest,
  DEFAULT_COMPLETION_TOKENS,
  type Message,
} from './openai-schema.ts';
import { unsupportedField } from './openai-unsupported.ts';
import { modelOf, schemaFailure } from './request.ts';
import type { JobRequest, Outcome } from './service.ts';

/** What the client asked of the answer's shape, beside the job. */
export interface Asked {
  job: JobRequest;
  /** Whom of the customer's own users it is for. */
  user: string | null;
  stream: boolean;
  includeUsage: boolean;
  logprobs: boolean;
}

const invalid = (param: string | null, rule: string): { ok: false; failure: Failure } => ({
  ok: false,
  failure: { code: 'invalid_request', param, reason: param === null ? rule : `${param}: ${rule}` },
});

/** Reads a chat body. `seed` is for one that names none. */
export function chatJob(body: unknown, seed: number): Outcome<Asked> {
  const checked = check(ChatRequest, body, 'chat');
  if (!checked.ok) return checked;
  const fields = checked.value;
  const messages: { role: string; content: string }[] = [];
  for (const [index, message] of fields.messages.entries()) {
    const read = readMessage(message, index);
    if (!read.ok) return read;
    messages.push(read.value);
  }
  if (fields.top_logprobs && !fields.logprobs) return invalid('top_logprobs', 'needs logprobs: true');
  const { max_tokens, max_completion_tokens } = fields;
  if (max_tokens && max_completion_tokens && max_tokens !== max_completion_tokens)
    return invalid('max_tokens', 'send max_completion_tokens alone');
  return {
    ok: true,
    value: {
      ...askedOf(fields),
      logprobs: fields.logprobs ?? false,
      job: {
        ...jobOf(fields, seed),
        input: { kind: 'chat', messages },
        maxNewTokens: max_completion_tokens ?? max_tokens ?? null,
        topLogprobs: fields.top_logprobs ?? 0,
      },
    },
  };
}

export function completionJob(body: unknown, seed: number): Outcome<Asked> {
  const checked = check(CompletionRequest, body, 'completion');
  if (!checked.ok) return checked;
  const fields = checked.value;
  const prompt = onePrompt(fields.prompt);
  if (prompt === null)
    return {
      ok: false,
      failure: { code: 'unsupported_field', param: 'prompt', reason: 'send one prompt in a request' },
    };
  return {
    ok: true,
    value: {
      ...askedOf(fields),
      logprobs: typeof fields.logprobs === 'number',
      job: {
        ...jobOf(fields, seed),
        input:
          typeof prompt === 'string'
            ? { kind: 'text', text: prompt, specialTokens: 'add' }
            : { kind: 'ids', ids: prompt },
        maxNewTokens: fields.max_tokens ?? DEFAULT_COMPLETION_TOKENS,
        topLogprobs: fields.logprobs ?? 0,
      },
    },
  };
}

/** Unsupported fields first: they are named even where their shape is none that the schema knows. */
function check<Schema extends z.ZodType<CommonRequest>>(
  schema: Schema,
  body: unknown,
  table: 'chat' | 'completion',
): Outcome<z.infer<Schema>> {
  if (!isObject(body)) return invalid(null, 'The body must be a JSON object.');
  const unsupported = unsupportedField(body, table, '');
  if (unsupported !== null) return { ok: false, failure: unsupported };
  const parsed = schema.safeParse(body);
  if (!parsed.success) return { ok: false, failure: schemaFailure(parsed.error) };
  if (!isObject(body.stream_options)) return { ok: true, value: parsed.data };
  if (!parsed.data.stream) return invalid('stream_options', 'only with stream: true');
  const option = unsupportedField(body.stream_options, 'streamOptions', 'stream_options.');
  return option === null ? { ok: true, value: parsed.data } : { ok: false, failure: option };
}

function readMessage(message: Message, index: number): Outcome<{ role: string; content: string }> {
  const path = `messages[${index}]`;
  const { role, content } = message;
  if (role === 'tool' || role === 'function')
    return {
      ok: false,
      failure: { code: 'unsupported_field', param: `${path}.role`, reason: `there are no tools, so no "${role}"` },
    };
  const unsupported = unsupportedField(message, 'message', `${path}.`);
  if (unsupported !== null) return { ok: false, failure: unsupported };
  if (content === null || content === undefined) return invalid(`${path}.content`, 'is required');
  // OpenAI renamed the role; templates know the old name.
  const servedRole = role === 'developer' ? 'system' : role;
  if (typeof content === 'string') return { ok: true, value: { role: servedRole, content } };
  let text = '';
  for (const [place, part] of content.entries()) {
    const partPath = `${path}.content[${place}]`;
    if (part.type !== 'text')
      return {
        ok: false,
        failure: { code: 'unsupported_field', param: `${partPath}.type`, reason: 'send parts of type "text"' },
      };
    if (part.text === undefined) return invalid(`${partPath}.text`, 'is required');
    text += part.text;
  }
  return { ok: true, value: { role: servedRole, content: text } };
}

/** null when there are several. */
function onePrompt(prompt: CompletionRequest['prompt']): string | number[] | null {
  if (typeof prompt === 'string') return prompt;
  const first = prompt[0]!;
  if (typeof first === 'number') return prompt as number[];
  return prompt.length === 1 ? first : null;
}

function askedOf(fields: CommonRequest) {
  return {
    user: fields.user || null,
    stream: fields.stream ?? false,
    includeUsage: fields.stream_options?.include_usage ?? false,
  };
}

function jobOf(fields: CommonRequest, seed: number) {
  const stop = fields.stop ?? [];
  return {
    model: modelOf(fields.model),
    sampling: samplingOf(fields, seed),
    truncatePromptTokens: null,
    stop: typeof stop === 'string' ? [stop] : stop,
    stopText: 'drop',
    eos: fields.ignore_eos ? 'ignore' : 'stop',
  } as const;
}

function samplingOf(fields: CommonRequest, seed: number): Sampling {
  const { temperature, top_p, top_k, do_sample } = fields;
  const warped = temperature != null || top_p != null || top_k != null;
  const greedy = temperature === 0 || top_p === 0 || (do_sample === false && !warped);
  return {
    temperature: greedy ? 0 : (temperature ?? null),
    topK: top_k == null ? null : Math.max(0, top_k),
    topP: greedy ? 1 : (top_p ?? null),
    seed: fields.seed ?? seed,
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
