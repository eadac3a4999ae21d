/** TGI stream: a job's events as /generate_stream's events. One token waits for the next, since TGI's last token carries the whole text. */
import type { TokenOut } from '../../core/protocol.ts';
import type { EncodeEvent, ServerEvent } from './event-stream.ts';
import { logInternal } from './refusal.ts';
import { type TgiAsked, tgiFinishReason, tgiToken, tgiTopTokens } from './tgi-answer.ts';
import { INCOMPLETE_STREAM, toTgi } from './tgi-refusal.ts';
import { numberUsd } from './usd.ts';

export function tgiEncoder(asked: TgiAsked, requestId: string): EncodeEvent {
  let index = 0;
  let text = '';
  let held: TokenOut | null = null;
  const say = (id: number | null, body: object): ServerEvent => ({ id, text: `data:${JSON.stringify(body)}` });
  const tokenEvent = (token: TokenOut, end: object) => {
    index += 1;
    const top = asked.topTokens ? { top_tokens: tgiTopTokens(token) } : {};
    return say(index, { index, token: tgiToken(token), ...top, generated_text: null, details: null, ...end });
  };
  const incomplete = (reason: string) => {
    logInternal(requestId, { code: 'answer_lost', reason });
    return say(null, INCOMPLETE_STREAM);
  };
  return (event) => {
    switch (event.type) {
      case 'started':
        return [];
      case 'tokens': {
        const events: ServerEvent[] = [];
        for (const token of event.tokens) {
          if (held !== null) events.push(tokenEvent(held, {}));
          held = token;
          text += token.text;
        }
        return events;
      }
      case 'finished': {
        if (held === null) return [incomplete('the job finished without a token')];
        const { promptTokens, completionTokens, costPicoUsd } = event.usage;
        const details = {
          finish_reason: tgiFinishReason(event, asked.maxNewTokens),
          generated_tokens: completionTokens,
          seed: asked.seed,
          input_length: promptTokens,
        };
        return [
          tokenEvent(
            { ...held, text: held.text + event.text },
            {
              generated_text: asked.prefix + text + event.text,
              details: asked.details ? details : null,
              nibble: { backend: event.backend, cost_usd: numberUsd(costPicoUsd) },
            },
          ),
        ];
      }
      case 'failed': {
        logInternal(requestId, event.failure);
        const { error, error_type } = toTgi(event.failure);
        // The token in hand was generated and is billed: it goes out before the error.
        return [...(held === null ? [] : [tokenEvent(held, {})]), say(null, { error, error_type })];
      }
      case 'cut':
        return [...(held === null ? [] : [tokenEvent(held, {})]), incomplete(event.reason)];
      default:
        return event satisfies never;
    }
  };
}
