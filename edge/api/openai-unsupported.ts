/** OpenAI fields known and not done yet: refused by name, except at the value that asks for nothing. Fields that no client documents pass, since clients add their own. */
import type { Failure } from '../../core/errors.ts';

interface Field {
  /** Whether this value asks for nothing beyond what is done anyway; null and absent always do. */
  asksNothing: (value: unknown) => boolean;
  /** What to send instead. */
  instead: string;
}

const only = (...values: unknown[]): Field => ({
  asksNothing: (value) => values.includes(value),
  instead: `leave it out or send ${values.map((value) => JSON.stringify(value)).join(' or ')}`,
});
const empty: Field = {
  asksNothing: (value) => typeof value === 'object' && value !== null && Object.keys(value).length === 0,
  instead: 'leave it out or send it empty',
};
const never: Field = { asksNothing: () => false, instead: 'leave it out' };
const textFormat: Field = {
  asksNothing: (value) => typeof value === 'object' && value !== null && 'type' in value && value.type === 'text',
  instead: 'leave it out or send {"type":"text"}',
};
const textOnly: Field = {
  asksNothing: (value) => Array.isArray(value) && value.every((item) => item === 'text'),
  instead: 'leave it out or send ["text"]',
};

/** What both routes share: OpenAI's own, then what vLLM and TGI add to these routes. */
const common: Record<string, Field> = {
  n: only(1),
  frequency_penalty: only(0),
  presence_penalty: only(0),
  logit_bias: empty,
  service_tier: only('auto', 'default'),
  min_p: only(0),
  typical_p: only(1),
  repetition_penalty: only(1),
  length_penalty: only(1),
  no_repeat_ngram_size: only(0),
  min_tokens: only(0),
  stop_token_ids: empty,
  bad_words: empty,
  allowed_token_ids: never,
  logits_processors: empty,
  prompt_logprobs: never,
  use_beam_search: only(false),
  include_stop_str_in_output: only(false),
  skip_special_tokens: only(true),
  truncate_prompt_tokens: never,
  truncate: never,
  priority: only(0),
  guided_json: never,
  guided_regex: never,
  guided_choice: never,
  guided_grammar: never,
  structured_outputs: never,
  grammar: never,
  watermark: only(false),
  return_full_text: only(false),
  details: only(false),
  decoder_input_details: only(false),
  top_n_tokens: only(0),
  adapter_id: never,
};

const chat: Record<string, Field> = {
  ...common,
  tools: empty,
  tool_choice: only('none', 'auto'),
  tool_prompt: never,
  functions: empty,
  function_call: only('none', 'auto'),
  response_format: textFormat,
  modalities: textOnly,
  audio: never,
  prediction: never,
  reasoning_effort: only('none'),
  verbosity: only('medium'),
  web_search_options: never,
  store: only(false),
  chat_template: never,
  chat_template_kwargs: empty,
  add_generation_prompt: only(true),
  continue_final_message: only(false),
  documents: empty,
};

const completion: Record<string, Field> = {
  ...common,
  best_of: only(1),
  echo: only(false),
  suffix: only(''),
  response_format: textFormat,
  add_special_tokens: only(true),
};

/** Inside `stream_options`. */
const streamOptions: Record<string, Field> = {
  include_obfuscation: only(false),
  continuous_usage_stats: only(false),
};

/** Inside a chat message. `refusal` and `annotations` come back when a client sends an earlier answer as it was. */
const message: Record<string, Field> = {
  name: never,
  tool_calls: empty,
  tool_call_id: never,
  function_call: never,
  audio: never,
  refusal: only(''),
  annotations: empty,
};

const tables = { chat, completion, streamOptions, message };

/** The first field of `object` that asks for something not done yet; `path` is written before its name. */
export function unsupportedField(
  object: Record<string, unknown>,
  table: keyof typeof tables,
  path: string,
): Failure | null {
  for (const [name, field] of Object.entries(tables[table])) {
    const value = object[name];
    if (value === undefined || value === null || field.asksNothing(value)) continue;
    return { code: 'unsupported_field', param: `${path}${name}`, reason: field.instead };
  }
  return null;
}
