/** Chat template: a checkpoint's own Jinja, rendered as transformers does, within a budget. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { NibbleError } from '../../../core/errors.ts';
import {
  ChatTemplate,
  chatTemplateOf,
  MAX_MESSAGES,
  MAX_PROMPT_CHARS,
  MAX_TEMPLATE_CHARS,
} from '../../../core/text/chat-template.ts';
import { caseNamed } from './tokenizers.ts';

const messages = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Hi' },
];
const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const LLAMA2 =
  "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";
const template = (source: string, tokens: Record<string, string> = {}) =>
  new ChatTemplate(source, tokens, 'chat_template.jinja');

describe('known templates', () => {
  test('ChatML, with and without the start of the answer', () => {
    const turns = '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n';
    expect(template(CHATML).render(messages)).toBe(`${turns}<|im_start|>assistant\n`);
    expect(template(CHATML).render(messages, { addGenerationPrompt: false })).toBe(turns);
  });

  test('Llama 2, whose own refusal reaches the caller', () => {
    const llama = chatTemplateOf({ chat_template: LLAMA2, bos_token: '<s>', eos_token: { content: '</s>' } }, null)!;
    expect(llama.render(messages)).toBe('<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]');
    expect(llama.render([...messages, { role: 'assistant', content: ' Hello ' }])).toMatch(/\[\/INST\] Hello <\/s>$/);
    const refusal = failureOf(() => llama.render([messages[1]!, messages[1]!]));
    expect(refusal).toMatchObject({
      code: 'invalid_request',
      param: 'messages',
      reason: expect.stringContaining('roles must alternate'),
    });
  });

  const golden = readOrNull(resolve(import.meta.dirname, '../../fixtures/demo/golden.json'));
  test.skipIf(golden === null || caseNamed('demo') === null)(
    "the demo model's renders its roles and refuses others",
    () => {
      const demo = chatTemplateOf(caseNamed('demo')!.config, null)!;
      expect(demo.render(messages)).toBe('<|bos|><|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>');
      expect(failureOf(() => demo.render([{ role: 'robot', content: '' }]))).toMatchObject({
        reason: expect.stringContaining('Unknown role robot'),
      });
    },
  );
});

describe('where it comes from', () => {
  test('chat_template.jinja goes before tokenizer_config.json; a list gives its default; none is null', () => {
    const list = [
      { name: 'tool_use', template: 'T' },
      { name: 'default', template: 'D' },
    ];
    expect(chatTemplateOf({ chat_template: 'C' }, 'J')!.render([])).toBe('J');
    expect(chatTemplateOf({ chat_template: 'C' }, null)!.render([])).toBe('C');
    expect(chatTemplateOf({ chat_template: list }, null)!.render([])).toBe('D');
    for (const config of [{}, { chat_template: null }, null, 'x']) expect(chatTemplateOf(config, null)).toBeNull();
    const stories = caseNamed('stories260k');
    if (stories) expect(chatTemplateOf(stories.config, null)).toBeNull();
  });

  test('a list without a default is named, and other types are refused', () => {
    expect(failureOf(() => chatTemplateOf({ chat_template: [{ name: 'rag', template: '' }] }, null)).code).toBe(
      'model_unsupported',
    );
    expect(failureOf(() => chatTemplateOf({ chat_template: 5 }, null)).code).toBe('file_invalid');
  });

  test('what is no Jinja, or too long, is refused when the model loads', () => {
    expect(failureOf(() => template('{% for x in %}')).code).toBe('file_invalid');
    expect(failureOf(() => template('{{')).code).toBe('file_invalid');
    expect(failureOf(() => template('x'.repeat(MAX_TEMPLATE_CHARS + 1)))).toMatchObject({
      code: 'file_invalid',
      rule: expect.stringContaining('500001'),
    });
  });
});

describe('the date', () => {
  const guarded = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}26 Jul 2024{% endif %}";
  test('is the caller’s, or the template’s own where it allows for none', () => {
    expect(template(guarded).render([])).toBe('26 Jul 2024');
    expect(template(guarded).render([], { addGenerationPrompt: true, strftimeNow: (format) => `<${format}>` })).toBe(
      '<%Y>',
    );
  });

  test('that a template insists on and nobody gives is said clearly', () => {
    expect(failureOf(() => template("{{ strftime_now('%Y') }}").render([]))).toMatchObject({
      code: 'invalid_request',
      reason: expect.stringContaining('it asks for the date, which is not given here'),
    });
  });
});

describe('a template that would not end', () => {
  const cases: [string, string, RegExp][] = [
    ['a long range', '{% for i in range(100001) %}x{% endfor %}', /range\(\) of 100001 elements/],
    ['an endless range', '{% for i in range(0, 10, 0) %}x{% endfor %}', /range\(\) of Infinity/],
    [
      'loops in loops',
      '{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}',
      /more than 5000000 steps/,
    ],
    [
      'a filtered loop in loops',
      '{% for i in range(9999) %}{% for j in range(9999) if false %}{% endfor %}{% endfor %}',
      /more than 5000000 steps/,
    ],
    [
      'a long text worked on in loops',
      '{% for i in range(99999) %}{% set y = messages[2].content | upper %}{% endfor %}',
      /more than 5000000 steps/,
    ],
    [
      'a text that doubles',
      `{% set ns = namespace(x='ab') %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}`,
      /more than 4000000 characters/,
    ],
    [
      'a list that doubles',
      `{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}`,
      /list of more than 100000/,
    ],
    ['a macro that calls itself', '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', /failed: /],
    ['nothing but an error', "{{ raise_exception('no') }}", /failed: no\./],
    ['an undefined call', '{{ nothing() }}', /failed: /],
  ];
  test.each(cases)('ends in a refusal: %s', (_, source, reason) => {
    expect(
      failureOf(() => template(source).render([...messages, { role: 'user', content: 'x'.repeat(1_000_000) }])),
    ).toMatchObject({
      code: 'invalid_request',
      reason: expect.stringMatching(reason),
    });
  });

  test('and so do too many messages, and too much text', () => {
    const many = Array.from({ length: MAX_MESSAGES + 1 }, () => messages[1]!);
    expect(failureOf(() => template(CHATML).render(many))).toMatchObject({
      reason: expect.stringContaining('4097 messages'),
    });
    const long = [{ role: 'user', content: 'x'.repeat(MAX_PROMPT_CHARS) }];
    expect(failureOf(() => template(CHATML).render(long))).toMatchObject({
      reason: expect.stringContaining('characters'),
    });
  });

  test('while as many messages as are allowed are rendered', () => {
    const rendered = template(CHATML).render(Array.from({ length: MAX_MESSAGES }, () => messages[1]!));
    expect(rendered.length).toBe(
      '<|im_start|>user\nHi<|im_end|>\n'.length * MAX_MESSAGES + '<|im_start|>assistant\n'.length,
    );
  });
});

test('a message cannot reach the prototype, nor be a template itself', () => {
  expect(
    template('{{ messages[0].constructor }}{{ messages[0].__proto__ }}{{ messages[0].content }}').render([
      { role: 'user', content: '{{ 7 * 7 }}' },
    ]),
  ).toBe('{{ 7 * 7 }}');
});

function failureOf(run: () => unknown) {
  try {
    run();
  } catch (error) {
    if (error instanceof NibbleError) return error.failure;
    throw error;
  }
  throw new Error('it was not refused');
}

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
