/** Admission: the bounds that a request is reserved at. */
import { expect, test } from 'vitest';
import type { ModelCard } from '../../core/protocol.ts';
import { boundOf } from '../../edge/admission.ts';

const card: ModelCard = {
  id: 'm',
  architecture: 'llama',
  quantization: null,
  contextTokens: 100,
  vocabSize: 10,
  parameters: 1,
  maxTokensPerByte: 1.5,
  textOverheadTokens: 2,
  chat: { baseTokens: 5, perMessageTokens: 7 },
};
const text = (content: string) => ({ kind: 'text', text: content, specialTokens: 'add' }) as const;
const unbounded = { maxNewTokens: null, truncatePromptTokens: null };

test('text is bounded by its bytes, not its characters', () => {
  expect(boundOf({ ...unbounded, input: text('abc') }, card)).toMatchObject({ value: { promptTokens: 5 + 2 } });
  expect(boundOf({ ...unbounded, input: text('日') }, card)).toMatchObject({ value: { promptTokens: 5 + 2 } });
});

test('a chat adds its template and counts roles', () => {
  const input = { kind: 'chat', messages: [{ role: 'user', content: 'abcd' }] } as const;
  expect(boundOf({ ...unbounded, input: { ...input, messages: [...input.messages] } }, card)).toMatchObject({
    value: { promptTokens: 12 + 2 + 5 + 7 },
  });
  expect(
    boundOf({ ...unbounded, input: { ...input, messages: [...input.messages] } }, { ...card, chat: null }),
  ).toMatchObject({
    failure: { code: 'invalid_request', param: 'messages' },
  });
});

test('nothing is bounded above the context or the truncation', () => {
  const input = text('x'.repeat(1000));
  expect(boundOf({ ...unbounded, input }, card)).toMatchObject({ value: { promptTokens: 100, completionTokens: 100 } });
  expect(boundOf({ ...unbounded, input, truncatePromptTokens: 10 }, card)).toMatchObject({
    value: { promptTokens: 10 },
  });
  expect(boundOf({ ...unbounded, input, maxNewTokens: 7 }, card)).toMatchObject({ value: { completionTokens: 7 } });
});

test('ids are exact: those that cannot fit are refused before a worker sees them', () => {
  const input = { kind: 'ids', ids: Array(98).fill(1) } as const;
  expect(boundOf({ ...unbounded, input, maxNewTokens: 2 }, card)).toMatchObject({ value: { promptTokens: 98 } });
  expect(boundOf({ ...unbounded, input, maxNewTokens: 3 }, card)).toMatchObject({
    failure: { code: 'context_exceeded', promptTokens: 98, maxNewTokens: 3, contextTokens: 100 },
  });
});
