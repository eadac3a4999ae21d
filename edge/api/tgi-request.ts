/** TGI request: the checks of /generate's parameters in TGI's order and words, and their job request. */
import { MAX_STOP_CHARS, MAX_STOPS } from './openai-schema.ts';
import { modelOf } from './request.ts';
import type { JobRequest } from './service.ts';
import type { GenerateRequest, Parameters } from './tgi-schema.ts';

/** TGI's default --max-top-n-tokens. */
const MAX_TOP_N_TOKENS = 5;

export type Reply = 'whole' | 'stream';

/** The first broken rule in TGI's words, or null. `maxInputTokens` is only looked at where `truncate` is set. */
export function brokenRule(
  inputs: string,
  parameters: Parameters,
  reply: Reply,
  maxInputTokens: number,
): string | null {
  const outside = (value: number | null | undefined, allowed: (value: number) => boolean): value is number =>
    value !== null && value !== undefined && !allowed(value);
  const positive = (value: number) => value > 0;
  const share = (value: number) => value > 0 && value < 1;
  const { best_of, temperature, repetition_penalty, frequency_penalty, top_p, typical_p, top_k } = parameters;
  const { max_new_tokens, top_n_tokens, truncate, decoder_input_details } = parameters;
  const stop = parameters.stop ?? [];
  if (outside(best_of, (value) => value === 1))
    return reply === 'stream'
      ? '`best_of` != 1 is not supported when streaming tokens'
      : '`best_of` != 1 is not allowed for this endpoint';
  if (reply === 'stream' && decoder_input_details)
    return '`decoder_input_details` == true is not supported when streaming tokens';
  if (outside(temperature, positive)) return '`temperature` must be strictly positive';
  if (outside(repetition_penalty, positive)) return '`repetition_penalty` must be strictly positive';
  if (outside(frequency_penalty, (value) => value >= -2 && value <= 2))
    return '`frequency_penalty` must be >= -2.0 and <= 2.0';
  if (outside(top_p, share)) return '`top_p` must be > 0.0 and < 1.0';
  if (outside(typical_p, share)) return '`typical_p` must be > 0.0 and < 1.0';
  if (outside(top_k, positive)) return '`top_k` must be strictly positive';
  if (outside(max_new_tokens, positive)) return '`max_new_tokens` must be strictly positive';
  if (stop.length > MAX_STOPS) return `\`stop\` supports up to ${MAX_STOPS} stop sequences. Given: ${stop.length}`;
  if (outside(top_n_tokens, (value) => value <= MAX_TOP_N_TOKENS))
    return `\`top_n_tokens\` must be >= 0 and <= ${MAX_TOP_N_TOKENS}. Given: ${top_n_tokens}`;
  if (inputs === '') return '`inputs` cannot be empty';
  if (outside(truncate, (value) => value > 0 && value <= maxInputTokens))
    return `\`truncate\` must be strictly positive and less than ${maxInputTokens}. Given: ${truncate}`;
  if (parameters.grammar) return 'grammar is not supported';
  return ownRule(parameters);
}

/** What TGI does and this server does not yet, and its own bounds. */
function ownRule({ stop, typical_p, repetition_penalty, frequency_penalty, watermark, adapter_id }: Parameters) {
  const notYet = (field: string) => `\`${field}\` is not supported yet`;
  if (stop?.some((text) => text === '' || text.length > MAX_STOP_CHARS))
    return `\`stop\` sequences must have 1 to ${MAX_STOP_CHARS} characters`;
  // Any typical_p that passes TGI's own check changes the distribution.
  if (typical_p != null) return notYet('typical_p');
  if (repetition_penalty != null && repetition_penalty !== 1) return notYet('repetition_penalty');
  if (frequency_penalty != null && frequency_penalty !== 0) return notYet('frequency_penalty');
  if (watermark) return notYet('watermark');
  if (adapter_id != null) return notYet('adapter_id');
  return null;
}

/** The job of a body that passed; `seed` is for one that names none. `sampled` decides whether the answer names the seed. */
export function tgiJob(body: GenerateRequest, seed: number): { job: JobRequest; sampled: boolean } {
  // TGI samples when there are no parameters at all, and does not when there are some without do_sample.
  const parameters: Parameters = body.parameters ?? { do_sample: true };
  const { do_sample, temperature, top_k, top_p } = parameters;
  const sampled = do_sample === true || temperature != null || top_k != null || top_p != null;
  return {
    sampled,
    job: {
      model: modelOf(body.model),
      input: { kind: 'text', text: body.inputs, specialTokens: 'add' },
      sampling: {
        temperature: sampled ? (temperature ?? 1) : 0,
        topK: top_k ?? 0,
        topP: top_p ?? 1,
        seed: parameters.seed ?? seed,
      },
      maxNewTokens: parameters.max_new_tokens ?? null,
      truncatePromptTokens: parameters.truncate ?? null,
      stop: parameters.stop ?? [],
      stopText: 'keep',
      eos: 'stop',
      topLogprobs: parameters.top_n_tokens ?? 0,
    },
  };
}
