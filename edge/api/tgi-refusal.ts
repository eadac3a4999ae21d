/** TGI refusal: a failure in TGI's statuses, types and words. */
import { type Failure, toHttp } from '../../core/errors.ts';
import { logInternal } from './refusal.ts';
import type { ApiContext } from './request.ts';

interface TgiFailure {
  status: ReturnType<typeof toHttp>['status'] | 424;
  error: string;
  error_type: string;
}

const LOST = toHttp({ code: 'answer_lost', reason: '' }).message;
/** An answer that ends without its end, in one piece and as events: TGI's words, and what they leave open. */
export const INCOMPLETE = { error: `Incomplete generation: ${LOST}`, error_type: 'incomplete_generation' };
export const INCOMPLETE_STREAM = {
  error: `Incomplete generation stream: ${LOST}`,
  error_type: 'incomplete_generation_stream',
};

export function toTgi(failure: Failure): TgiFailure {
  const validation = (rule: string): TgiFailure => ({
    status: 422,
    error: `Input validation error: ${rule}`,
    error_type: 'validation',
  });
  const { status, code, message } = toHttp(failure);
  switch (failure.code) {
    case 'invalid_request':
    case 'unsupported_field':
    case 'reservation_exceeded':
      return validation(message);
    case 'context_exceeded': {
      const { promptTokens, maxNewTokens, contextTokens } = failure;
      // The engine asks for one new token where the request names no number: then the prompt alone is too long.
      if (maxNewTokens <= 1 && promptTokens >= contextTokens)
        return validation(`\`inputs\` must have less than ${contextTokens} tokens. Given: ${promptTokens}`);
      return validation(
        `\`inputs\` tokens + \`max_new_tokens\` must be <= ${contextTokens}. Given: ${promptTokens} \`inputs\` tokens and ${maxNewTokens} \`max_new_tokens\``,
      );
    }
    case 'invalid_key':
      return { status, error: message, error_type: 'authentication' };
    case 'rate_limited':
    case 'queue_full':
      return { status, error: 'Model is overloaded', error_type: 'overloaded' };
    case 'generation_failed':
    case 'worker_lost':
    case 'poison_prompt':
      return { status: 424, error: `Request failed during generation: ${message}`, error_type: 'generation' };
    default:
      return { status, error: message, error_type: code };
  }
}

export function refuseTgi(c: ApiContext, failure: Failure): Response {
  logInternal(c.var.requestId, failure);
  const { retryAfterS } = toHttp(failure);
  if (retryAfterS !== null) c.header('retry-after', String(Math.ceil(retryAfterS)));
  const { status, error, error_type } = toTgi(failure);
  return c.json({ error, error_type }, status);
}
