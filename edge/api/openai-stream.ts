/** OpenAI stream: a job's events as chunks, one a token, then usage and [DONE], or one error event and nothing after it. */
import type { TokenOut } from '../../core/protocol.ts';
import type { EncodeEvent } from './event-stream.ts';
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
  const chunk = (choices: object[], more: object = asked.includeUsage ? { usage: null } : {}) =>
    `data: ${JSON.stringify({ ...head, object: format.object, system_fingerprint: fingerprint(backend), choices, ...more })}\n\n`;
  const open = () => {
    if (opened || format.opening === null) return '';
    opened = true;
    return chunk([format.opening]);
  };
  return (event) => {
    switch (event.type) {
      case 'started':
        backend = event.backend;
        return open();
      case 'tokens': {
        let text = open();
        for (const token of event.tokens)
          if (token.text !== '' || asked.logprobs) text += chunk([format.delta(token.text, token)]);
        return text;
      }
      case 'finished': {
        backend = event.backend;
        let text = open();
        if (event.text !== '') text += chunk([format.delta(event.text, null)]);
        text += chunk([format.ending(finishReasonOf(event.reason))]);
        if (asked.includeUsage) text += chunk([], { usage: usageBody(event.usage), nibble: { backend } });
        return `${text}data: [DONE]\n\n`;
      }
      case 'failed': {
        logInternal(requestId, event.failure);
        const { error } = errorBody(event.failure);
        return `data: ${JSON.stringify({ error: { ...error, usage: usageBody(event.usage) } })}\n\n`;
      }
      case 'cut': {
        const failure = { code: 'internal', reason: event.reason } as const;
        logInternal(requestId, failure);
        return `data: ${JSON.stringify({ error: { ...errorBody(failure).error, usage: null } })}\n\n`;
      }
      default:
        return event satisfies never;
    }
  };
}
