/** OpenAI stream: a job's events as chunks, one a token, then usage and [DONE], or one error event and nothing after it. */
import type { TokenOut } from '../../core/protocol.ts';
import type { EncodeEvent, ServerEvent } from './event-stream.ts';
import { fingerprint, finishReasonOf, type Head, usageBody } from './openai-answer.ts';
import { errorBody, logInternal } from './refusal.ts';

export interface ChunkFormat {
  object: string;
  /** The choice that opens the stream before any text; null where the format has none. */
  opening: object | null;
  /** A choice for more text; `token` is null for text that no token of its own brings. */
  delta(text: string, token: TokenOut | null): object;
  /** The choice that ends the answer. */
  ending(finishReason: string): object;
}

export function chunkEncoder(
  head: Head,
  format: ChunkFormat,
  asked: { includeUsage: boolean; logprobs: boolean },
  requestId: string,
): EncodeEvent {
  let backend: string | null = null;
  let opened = false;
  let numTokens = 0;
  const say = (id: number | null, body: object): ServerEvent => ({ id, text: `data: ${JSON.stringify(body)}` });
  const chunk = (id: number | null, choices: object[], more: object = asked.includeUsage ? { usage: null } : {}) =>
    say(id, { ...head, object: format.object, system_fingerprint: fingerprint(backend), choices, ...more });
  const open = () => {
    if (opened || format.opening === null) return [];
    opened = true;
    return [chunk(0, [format.opening])];
  };
  return (event) => {
    switch (event.type) {
      case 'started':
        backend = event.backend;
        return open();
      case 'tokens': {
        const events = open();
        for (const token of event.tokens) {
          numTokens += 1;
          if (token.text !== '' || asked.logprobs) events.push(chunk(numTokens, [format.delta(token.text, token)]));
        }
        return events;
      }
      case 'finished': {
        backend = event.backend;
        const events = open();
        if (event.text !== '') events.push(chunk(numTokens + 1, [format.delta(event.text, null)]));
        events.push(chunk(null, [format.ending(finishReasonOf(event.reason))]));
        if (asked.includeUsage) events.push(chunk(null, [], { usage: usageBody(event.usage), nibble: { backend } }));
        return [...events, { id: null, text: 'data: [DONE]' }];
      }
      case 'failed': {
        logInternal(requestId, event.failure);
        const { error } = errorBody(event.failure);
        return [say(null, { error: { ...error, usage: usageBody(event.usage) } })];
      }
      case 'cut': {
        const failure = { code: 'answer_lost', reason: event.reason } as const;
        logInternal(requestId, failure);
        return [say(null, { error: { ...errorBody(failure).error, usage: null } })];
      }
      default:
        return event satisfies never;
    }
  };
}
