/** Token bound: no text becomes more tokens than its bytes allow. */
import { describe, expect, test } from 'vitest';
import { NibbleError } from '../../../core/errors.ts';
import { maxTokensPerByte } from '../../../core/text/token-bound.ts';
import { Tokenizer } from '../../../core/text/tokenizer.ts';
import { randomOf } from '../formats/random.ts';
import { caseNamed, load, nastyTexts, tokenizerCases } from './tokenizers.ts';

const utf8Length = (text: string) => new TextEncoder().encode(text).length;

function expectBounded(tokenizer: Tokenizer, json: object, seed: number): void {
  const { perByte, overhead } = maxTokensPerByte(json);
  const random = randomOf(seed);
  const alphabets: (() => number)[] = [
    () => 32 + random() * 95,
    () => random() * 0x3000,
    () => random() * 0x110000,
    () =>
      [0x20, 0x2581, 0x0958, 0x1d160, 0x0390, 0xfdfa, 0x0130, 0x023a, 0x301, 0xd800, 0xfb2c, 0x61, 0x2e][
        Math.floor(random() * 13)
      ]!,
  ];
  const texts = [
    ...nastyTexts,
    '\u{1d160}'.repeat(50),
    '\u0958'.repeat(50),
    '\ufdfa'.repeat(20),
    ' '.repeat(100),
    ' a'.repeat(100),
    'a.'.repeat(100),
    '</s>a'.repeat(30),
    '<|end|>a'.repeat(30),
  ];
  for (let round = 0; round < 300; round++) {
    const draw = alphabets[round % alphabets.length]!;
    texts.push(
      Array.from({ length: Math.floor(random() * 60) }, () => String.fromCodePoint(Math.floor(draw()))).join(''),
    );
  }
  for (const text of texts) {
    const tokens = tokenizer.encode(text, 'add').length;
    const bound = perByte * utf8Length(text) + overhead;
    if (tokens > bound) expect({ text, tokens }).toEqual({ text, atMost: bound });
  }
}

test.each(tokenizerCases)('holds for $name', (one) => {
  expectBounded(load(one).tokenizer, one.json, 3);
});

test('is one token a byte for the usual kinds, and three under NFC', () => {
  expect(maxTokensPerByte(caseNamed('byte-fallback fixture')!.json)).toEqual({ perByte: 1, overhead: 2 });
  expect(maxTokensPerByte(caseNamed('byte-level fixture')!.json)).toEqual({ perByte: 3, overhead: 0 });
  const falcon = caseNamed('falcon');
  if (falcon) expect(maxTokensPerByte(falcon.json)).toEqual({ perByte: 1, overhead: 0 });
});

describe('other normalizers and pre-tokenizers', () => {
  const bytes = caseNamed('byte-level fixture')!.json as Record<string, unknown>;
  const fallback = caseNamed('byte-fallback fixture')!.json as Record<string, unknown>;
  const byteLevel = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true };
  const cases: [string, Record<string, unknown>][] = [
    ['NFKC', { ...bytes, normalizer: { type: 'NFKC' } }],
    [
      'NFD then Lowercase',
      { ...bytes, normalizer: { type: 'Sequence', normalizers: [{ type: 'NFD' }, { type: 'Lowercase' }] } },
    ],
    [
      'a Replace that grows',
      { ...bytes, normalizer: { type: 'Replace', pattern: { String: 'a' }, content: 'abcdef' } },
    ],
    [
      'a Replace that matches nothing',
      { ...bytes, normalizer: { type: 'Replace', pattern: { Regex: 'x*' }, content: 'ab' } },
    ],
    ['a prefix space', { ...bytes, pre_tokenizer: byteLevel }],
    [
      'a prefix space a word',
      { ...bytes, pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Punctuation' }, byteLevel] } },
    ],
    [
      'Metaspace',
      {
        ...fallback,
        normalizer: null,
        pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
      },
    ],
    [
      'a mark that is no piece',
      { ...fallback, normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▂▂' } },
    ],
    ['a short added token with a prefix', { ...fallback, added_tokens: [{ id: 1, content: '@', special: true }] }],
    [
      'a normalized added token',
      { ...fallback, added_tokens: [{ id: 1, content: '@', special: false, normalized: true }] },
    ],
    [
      'a Split that keeps its groups',
      {
        ...bytes,
        normalizer: null,
        pre_tokenizer: {
          type: 'Sequence',
          pretokenizers: [
            { type: 'Split', pattern: { Regex: '(.)' }, behavior: 'Removed', invert: false },
            { ...byteLevel, use_regex: false },
          ],
        },
      },
    ],
  ];
  test.each(cases)('are bounded too: %s', (_, json) => {
    expectBounded(new Tokenizer(json, {}), json, 5);
  });

  test('what is not known is refused, not guessed', () => {
    expect(() => maxTokensPerByte({ ...bytes, normalizer: { type: 'Magic' } })).toThrow(NibbleError);
    expect(() => maxTokensPerByte({ ...bytes, pre_tokenizer: { type: 'Magic' } })).toThrow(
      /pre_tokenizer: the growth of "Magic"/,
    );
    expect(() =>
      maxTokensPerByte({ ...bytes, normalizer: { type: 'Replace', pattern: { String: 'a' }, content: '$&$&' } }),
    ).toThrow(NibbleError);
    expect(() => maxTokensPerByte('x')).toThrow(/tokenizer.json/);
  });
});
