/** TGI schemas: the types of /generate's fields. Their ranges are checked in tgi-request.ts, in TGI's order and words. */
import { z } from '@hono/zod-openapi';

const count = z.int().min(0);
const MAX_NAME_CHARS = 200;

export const Parameters = z
  .object({
    best_of: count.nullish(),
    temperature: z.number().nullish(),
    repetition_penalty: z.number().nullish(),
    frequency_penalty: z.number().nullish(),
    top_k: z.int().nullish(),
    top_p: z.number().nullish(),
    typical_p: z.number().nullish(),
    do_sample: z.boolean().nullish(),
    max_new_tokens: count.nullish().openapi({ description: 'Absent: until the context is full.' }),
    return_full_text: z.boolean().nullish(),
    stop: z.array(z.string()).nullish().openapi({ description: 'Kept in the text.' }),
    truncate: count.nullish().openapi({ description: 'Keep only the last so many tokens of the prompt.' }),
    watermark: z.boolean().nullish(),
    details: z.boolean().nullish(),
    decoder_input_details: z.boolean().nullish(),
    seed: count.nullish(),
    top_n_tokens: count.nullish(),
    grammar: z.looseObject({}).nullish(),
    adapter_id: z.string().nullish(),
  })
  .openapi('GenerateParameters');
export type Parameters = z.infer<typeof Parameters>;

export const GenerateRequest = z
  .object({
    inputs: z.string(),
    parameters: Parameters.nullish(),
    stream: z.boolean().nullish().openapi({ description: 'On POST / only.' }),
    model: z
      .string()
      .max(MAX_NAME_CHARS)
      .nullish()
      .openapi({ description: 'Extension; absent or "tgi": the default model.' }),
  })
  .openapi('GenerateRequest');
export type GenerateRequest = z.infer<typeof GenerateRequest>;

const Token = z.object({ id: z.int(), text: z.string(), logprob: z.number().nullable(), special: z.boolean() });
const FinishReason = z.enum(['length', 'eos_token', 'stop_sequence']);
export const GenerateResponse = z
  .object({
    generated_text: z.string(),
    details: z
      .object({
        finish_reason: FinishReason,
        generated_tokens: z.int(),
        seed: z.int().nullable(),
        prefill: z.array(Token),
        tokens: z.array(Token),
        top_tokens: z.array(z.array(Token)).optional(),
      })
      .optional(),
  })
  .openapi('GenerateResponse');

export const TgiError = z.object({ error: z.string(), error_type: z.string() }).openapi('TgiError');
