import { describe, expect, test } from 'vitest';
import { PromptEncoder } from '../../../core/engine/prompt.ts';
import { failureOf } from '../../../core/errors.ts';
import { loadDemo } from '../../gpu-worker/demo-model.ts';

const CONTEXT = 64;

async function encoder() {
  const { tokenizer, template } = await loadDemo('f16', 'reference');
  return { tokenizer, prompts: new PromptEncoder(tokenizer, template, CONTEXT) };
}

describe('a prompt', () => {
  test('that cannot fit the context is refused before it is tokenized', async () => {
    const { prompts } = await encoder();
    let code = 'accepted';
    try {
      prompts.encode({ kind: 'text', text: 'x'.repeat(1_000_000), specialTokens: 'add' }, null);
    } catch (error) {
      code = failureOf(error).code;
    }
    expect(code).toBe('context_exceeded');
  });

  test('keeps its last tokens, the same from a long text as from all of it', async () => {
    const { tokenizer, prompts } = await encoder();
    const text = 'One day the little fox went to the river. '.repeat(2000);
    const kept = prompts.encode({ kind: 'text', text, specialTokens: 'add' }, 20);
    expect(kept).toEqual(tokenizer.encode(text, 'add').slice(-20));
  });

  test('of a chat goes through the template, without a second beginning-of-sequence token', async () => {
    const { tokenizer, prompts } = await encoder();
    const ids = prompts.encode({ kind: 'chat', messages: [{ role: 'user', content: 'Hello' }] }, null);
    const bos = tokenizer.idOf('<|bos|>');
    expect(ids.filter((id) => id === bos)).toHaveLength(1);
    expect(tokenizer.decode(ids, { skipSpecial: true })).toBe('Hello');
  });
});
