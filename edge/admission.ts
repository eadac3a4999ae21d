/** Admission: the upper bounds that a request is admitted and reserved at. Pure. */
import type { Failure } from '../core/errors.ts';
import type { Input, ModelCard } from '../core/protocol.ts';
import type { JobRequest } from './api/service.ts';

export interface Bound {
  promptTokens: number;
  completionTokens: number;
}

export type BoundOutcome = { ok: true; value: Bound } | { ok: false; failure: Failure };

/** Never below what the model's tokenizer makes of the prompt, and never above the context. */
export function boundOf(
  request: Pick<JobRequest, 'input' | 'maxNewTokens' | 'truncatePromptTokens'>,
  card: ModelCard,
): BoundOutcome {
  const { input, maxNewTokens, truncatePromptTokens } = request;
  if (input.kind === 'chat' && card.chat === null) {
    const reason = `The model "${card.id}" has no chat template.`;
    return { ok: false, failure: { code: 'invalid_request', param: 'messages', reason } };
  }
  const context = card.contextTokens;
  const whole = tokensAtMost(input, card);
  const kept = Math.min(whole, truncatePromptTokens ?? whole);
  // Only ids are exact before they are tokenized; for text the worker says so, when it knows.
  if (input.kind === 'ids' && kept + (maxNewTokens ?? 0) > context)
    return {
      ok: false,
      failure: {
        code: 'context_exceeded',
        promptTokens: kept,
        maxNewTokens: maxNewTokens ?? 0,
        contextTokens: context,
      },
    };
  return {
    ok: true,
    value: { promptTokens: Math.min(kept, context), completionTokens: Math.min(maxNewTokens ?? context, context) },
  };
}

function tokensAtMost(input: Input, card: ModelCard): number {
  switch (input.kind) {
    case 'ids':
      return input.ids.length;
    case 'text':
      return textTokensAtMost(input.text, card);
    case 'chat': {
      const { baseTokens, perMessageTokens } = card.chat ?? { baseTokens: 0, perMessageTokens: 0 };
      const text = input.messages.map((message) => message.role + message.content).join('');
      return textTokensAtMost(text, card) + baseTokens + perMessageTokens * input.messages.length;
    }
    default:
      return input satisfies never;
  }
}

function textTokensAtMost(text: string, card: ModelCard): number {
  const bytes = new TextEncoder().encode(text).byteLength;
  return Math.ceil(bytes * card.maxTokensPerByte) + card.textOverheadTokens;
}
