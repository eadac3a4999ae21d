/** Tokenizer: the reference's ids, its text back, and what it refuses. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Tokenizer } from '../../../core/text/tokenizer.ts';
import { sharedData } from '../../shared-data.ts';
import { randomOf } from '../formats/random.ts';
import { caseNamed, load, nastyTexts, tokenizerCases } from './tokenizers.ts';

describe.each(['llama2', 'falcon'])('%s (skipped without shared data)', (name) => {
  const folder = sharedData(`tokenizers/${name}`);
  test.skipIf(folder === null)("gives llama.cpp's expected ids for every conformance case", () => {
    const { tokenizer } = load(caseNamed(name)!);
    const texts = readFileSync(join(folder!, 'cases.inp'), 'utf8').split('\n__ggml_vocab_test__\n');
    const wanted = readFileSync(join(folder!, 'cases.out'), 'utf8').split('\n').slice(0, texts.length);
    expect(texts.length).toBeGreaterThan(40);
    const got = texts.map((text) => tokenizer.encode(text, 'none').join(' '));
    expect(got).toEqual(wanted.map((line) => line.trim()));
  });
});

const golden = sharedData('stories260k/golden.json');
test.skipIf(golden === null)(
  'stories260k gives the golden input ids, and their text back (skipped without shared data)',
  () => {
    const { cases, greedy_200: greedy } = JSON.parse(readFileSync(golden!, 'utf8'));
    const { tokenizer } = load(caseNamed('stories260k')!);
    for (const { prompt, input_ids: ids } of cases) {
      expect(tokenizer.encode(prompt, 'add')).toEqual(ids);
      expect(tokenizer.decode(ids, { skipSpecial: true })).toBe(prompt);
    }
    expect(tokenizer.decode([...greedy.input_ids, ...greedy.new_ids], { skipSpecial: true })).toBe(greedy.text);
  },
);

const demoCases = readOrNull(resolve(import.meta.dirname, '../../fixtures/demo/tokenizer-cases.json'));
test.skipIf(demoCases === null)("the demo model's tokenizer agrees with Hugging Face's own on ids and on text", () => {
  const { tokenizer } = load(caseNamed('demo')!);
  const { cases } = JSON.parse(demoCases!);
  expect(cases.length).toBeGreaterThan(0);
  for (const { text, ids, idsWithSpecial, decoded, decodedSkipSpecial } of cases) {
    expect(tokenizer.encode(text, 'none')).toEqual(ids);
    expect(tokenizer.encode(text, 'add')).toEqual(idsWithSpecial);
    expect(tokenizer.decode(ids, { skipSpecial: false })).toBe(decoded);
    expect(tokenizer.decode(ids, { skipSpecial: true })).toBe(decodedSkipSpecial);
  }
});

describe.each(tokenizerCases)('$name', (one) => {
  test('decodes as the library does, ids of every kind in any order', () => {
    const { tokenizer, library } = load(one);
    const random = randomOf(11);
    for (let round = 0; round < 300; round++) {
      const ids = Array.from({ length: 1 + Math.floor(random() * 20) }, () =>
        Math.floor(random() * tokenizer.vocabSize),
      );
      for (const skipSpecial of [true, false])
        expect(tokenizer.decode(ids, { skipSpecial })).toBe(library.decode(ids, { skip_special_tokens: skipSpecial }));
    }
  });

  test('encodes as the library does, and decodes nasty texts as it does', () => {
    const { tokenizer, library } = load(one);
    for (const text of nastyTexts.filter((text) => text !== '')) {
      const ids = tokenizer.encode(text, 'add');
      expect(ids).toEqual(library.encode(text).ids);
      if (ids.length > 0)
        expect(tokenizer.decode(ids, { skipSpecial: true })).toBe(library.decode(ids, { skip_special_tokens: true }));
    }
  });

  test('knows its tokens by text and by id, and gives nothing for an id it does not have', () => {
    const { tokenizer } = load(one);
    for (let id = 0; id < Math.min(tokenizer.vocabSize, 2000); id++) {
      const piece = tokenizer.piece(id);
      if (piece !== null) expect(tokenizer.piece(tokenizer.idOf(piece)!)).toBe(piece);
    }
    expect(tokenizer.piece(tokenizer.vocabSize)).toBeNull();
    expect(tokenizer.idOf('no such piece anywhere')).toBeNull();
    const ids = tokenizer.encode('hello', 'none');
    expect(tokenizer.decode([tokenizer.vocabSize, ...ids, 1e6], { skipSpecial: false })).toBe(
      tokenizer.decode(ids, { skipSpecial: false }),
    );
    expect(tokenizer.decode([], { skipSpecial: true })).toBe('');
    expect(tokenizer.encode('', 'none')).toEqual([]);
  });
});

describe('the byte-fallback fixture', () => {
  const { tokenizer } = load(caseNamed('byte-fallback fixture')!);
  test('prepends, falls back to bytes, and adds its special token when asked', () => {
    const pieces = (text: string) => tokenizer.encode(text, 'none').map((id) => tokenizer.piece(id));
    expect(pieces('the cat ñ')).toEqual(['▁the', '▁cat', '▁', '<0xC3>', '<0xB1>']);
    expect(tokenizer.encode('the', 'add')).toEqual([1, ...tokenizer.encode('the', 'none')]);
  });

  test('a single token keeps its space, and shows part of a character as U+FFFD', () => {
    expect(tokenizer.textOf(tokenizer.idOf('▁cat')!)).toBe(' cat');
    expect(tokenizer.textOf(tokenizer.idOf('<0xC3>')!)).toBe('\ufffd');
    expect(tokenizer.textOf(1)).toBe('<s>');
  });

  test('control tokens are special, tools are not', () => {
    expect([1, 2].every((id) => tokenizer.isSpecial(id))).toBe(true);
    expect(tokenizer.isSpecial(tokenizer.idOf('<tool>')!)).toBe(false);
  });
});

describe('a broken tokenizer.json', () => {
  const { json } = caseNamed('byte-level fixture')! as { json: Record<string, unknown> };
  const model = json.model as object;
  const invalid: [string, unknown][] = [
    ['no object', 'x'],
    ['no model', { ...json, model: undefined }],
    ['a negative id', { ...json, model: { ...model, vocab: { a: -1 } } }],
    ['an id too high', { ...json, model: { ...model, vocab: { a: 2 ** 31 } } }],
    ['a Unigram piece that is no text', { ...json, model: { type: 'Unigram', vocab: [[1, 0]] } }],
    ['merges that are none', { ...json, model: { ...model, merges: [1] } }],
    ['an unknown normalizer', { ...json, normalizer: { type: 'Magic' } }],
    ['an added token without text', { ...json, added_tokens: [{ id: 1, content: '' }] }],
  ];
  test.each(invalid)('is refused: %s', (_, broken) => {
    expect(() => new Tokenizer(broken, {})).toThrow(
      expect.objectContaining({ failure: expect.objectContaining({ code: 'file_invalid' }) }),
    );
  });

  test.each([
    { type: 'CTC' },
    { type: 'WordPiece' },
    { type: 'Sequence', decoders: [{ type: 'Fuse' }, { type: 'ByteFallback' }] },
    { type: 'Strip', content: ' ', start: 0, stop: 1 },
    null,
  ])('a decoder that cannot be streamed is named: %j', (decoder) => {
    expect(() => new Tokenizer({ ...json, decoder }, {})).toThrow(
      expect.objectContaining({ failure: expect.objectContaining({ code: 'model_unsupported', option: 'decoder' }) }),
    );
  });
});

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
