/** Detokenizer: the parts are the whole, characters are never cut, and the answer ends where a stop string says. */
import { describe, expect, test } from 'vitest';
import { NibbleError } from '../../../core/errors.ts';
import { Detokenizer, type DetokenizerOptions } from '../../../core/text/detokenizer.ts';
import { Tokenizer } from '../../../core/text/tokenizer.ts';
import { randomOf } from '../formats/random.ts';
import { caseNamed, load, nastyTexts, tokenizerCases } from './tokenizers.ts';

/** Pushes all ids, or up to the stop; `parts` are the texts that came out, the flush last. */
function run(tokenizer: Tokenizer, ids: readonly number[], options: Partial<DetokenizerOptions> = {}) {
  const detokenizer = new Detokenizer(tokenizer, { stop: [], stopText: 'drop', ...options });
  const parts: string[] = [];
  let stoppedAt: number | null = null;
  for (const [i, id] of ids.entries()) {
    const { text, stopped } = detokenizer.push(id);
    parts.push(text);
    if (!stopped) continue;
    stoppedAt = i;
    break;
  }
  parts.push(detokenizer.flush());
  return { text: parts.join(''), parts, stoppedAt };
}

describe.each(tokenizerCases)('$name', (one) => {
  const { tokenizer } = load(one);
  const random = randomOf(23);
  const randomIds = (length: number) => Array.from({ length }, () => Math.floor(random() * (tokenizer.vocabSize + 2)));

  test('the parts of random ids join to their full decode, with and without special tokens', () => {
    for (let round = 0; round < 200; round++) {
      const ids = randomIds(Math.floor(random() * 40));
      for (const skipSpecial of [true, false])
        for (const stopText of ['keep', 'drop'] as const)
          expect(run(tokenizer, ids, { skipSpecial, stopText }).text).toBe(tokenizer.decode(ids, { skipSpecial }));
    }
  });

  test('every split of a real text into prompt and answer gives the rest of the text', () => {
    for (const text of [...nastyTexts, 'Once upon a time, there was a 日本 naïve café 😀.'].filter((text) =>
      text.isWellFormed(),
    )) {
      const ids = tokenizer.encode(text, 'add');
      const full = tokenizer.decode(ids, { skipSpecial: true });
      for (let split = 0; split <= Math.min(ids.length, 60); split++) {
        // A character that the prompt begins and the answer ends belongs to the answer: the prompt's text is what is complete.
        const stream = tokenizer.stream(true);
        const prompt = ids
          .slice(0, split)
          .map((id) => stream.push(id))
          .join('');
        expect(prompt + run(tokenizer, ids.slice(split), { promptIds: ids.slice(0, split) }).text).toBe(full);
      }
    }
  });

  test('no part ends in half a character', () => {
    for (const text of ['日本語 😀😀 naïve', '👩‍👩‍👧‍👦'.repeat(3)]) {
      const { parts } = run(tokenizer, tokenizer.encode(text, 'none'));
      for (const part of parts) {
        expect(part.isWellFormed()).toBe(true);
        expect(part).not.toContain('\ufffd');
      }
    }
  });

  test('held text and cuts agree with a search in the whole text, whatever the tokens', () => {
    const texts = ['the cat sat on the mat. the end', 'aaaaaaab aaab', 'abababac', 'x\n\nUser: no', '日本語日本人'];
    const stops = [
      ['the'],
      ['aab'],
      ['abac', 'bab'],
      ['\n\nUser:', '\n\nUs!'],
      ['本人'],
      ['never'],
      ['ab', 'aaab'],
      ['d'],
    ];
    for (const text of texts) {
      for (const stop of stops) {
        const ids = tokenizer.encode(text, 'none');
        const full = tokenizer.decode(ids, { skipSpecial: true });
        expect(run(tokenizer, ids, { stop }).text, `${text} at ${stop}`).toBe(cutAtFirst(full, stop));
      }
    }
  });
});

/** The plain way: the stop string that is complete first; of several complete at once, the longest. */
function cutAtFirst(text: string, stops: string[]): string {
  for (let end = 1; end <= text.length; end++) {
    const lengths = stops.filter((stop) => text.slice(0, end).endsWith(stop)).map((stop) => stop.length);
    if (lengths.length > 0) return text.slice(0, end - Math.max(...lengths));
  }
  return text;
}

describe('stop strings', () => {
  const { tokenizer } = load(caseNamed('byte-fallback fixture')!);
  const ids = (text: string) => tokenizer.encode(text, 'none');

  test('dropped: what may be the start of one is held, and released when it is not', () => {
    const { parts, stoppedAt } = run(tokenizer, ids('a-b--c'), { stop: ['--!'] });
    expect([parts, stoppedAt]).toEqual([['a', '', '-b', '', '', '--c', ''], null]);
  });

  test('dropped: what is still held when the answer is over comes with the flush', () => {
    const { parts } = run(tokenizer, ids('ab--'), { stop: ['--!'] });
    expect(parts.at(-1)).toBe('--');
  });

  test('dropped: the cut may fall inside a token', () => {
    expect(run(tokenizer, ids('a the b'), { stop: ['th'] })).toMatchObject({ text: 'a ', stoppedAt: 1 });
  });

  test('kept: text comes at once, the stop string included, and counts only at the end of a token', () => {
    expect(run(tokenizer, ids('a the b'), { stop: ['th'], stopText: 'keep' })).toMatchObject({
      text: 'a the b',
      stoppedAt: null,
    });
    expect(run(tokenizer, ids('a the b'), { stop: ['e'], stopText: 'keep' })).toMatchObject({
      text: 'a the',
      stoppedAt: 1,
    });
    expect(run(tokenizer, ids('a-b'), { stop: ['-b'], stopText: 'keep' }).parts).toEqual(['a', '-', 'b', '']);
  });

  test('a stop string is found in the answer only, not across the prompt', () => {
    const [prompt, answer] = [ids('a-'), ids('-b').slice(1)];
    expect(run(tokenizer, answer, { promptIds: prompt, stop: ['--'] })).toMatchObject({ text: '-b', stoppedAt: null });
  });

  test('nothing comes after a stop', () => {
    const detokenizer = new Detokenizer(tokenizer, { stop: ['b'], stopText: 'drop' });
    for (const id of ids('ab')) detokenizer.push(id);
    expect(detokenizer.push(ids('c').at(-1)!)).toEqual({ text: '', stopped: true });
    expect(detokenizer.flush()).toBe('');
  });

  test('half a surrogate pair in one cannot cut a character', () => {
    const { text } = run(tokenizer, ids('a😀b'), { stop: ['\ude00'] });
    expect(text).toBe('a😀b');
  });

  test('an empty one is refused', () => {
    expect(() => new Detokenizer(tokenizer, { stop: [''], stopText: 'drop' })).toThrow(NibbleError);
  });
});

describe('bytes', () => {
  const { tokenizer } = load(caseNamed('byte-fallback fixture')!);
  const byte = (value: number) => 3 + value;

  test('a character comes when its last byte does', () => {
    expect(run(tokenizer, [0xf0, 0x9f, 0x98, 0x80, 0x41].map(byte)).parts).toEqual(['', '', '', '😀', 'A', '']);
  });

  test('bytes that cannot become a character come as U+FFFD as soon as that is certain', () => {
    expect(run(tokenizer, [0xe2, 0x41].map(byte)).parts).toEqual(['', '\ufffdA', '']);
    expect(run(tokenizer, [0xff, 0x80, 0xe2, 0x82].map(byte)).parts).toEqual(['\ufffd', '\ufffd', '', '', '\ufffd']);
    expect(run(tokenizer, [byte(0xe2), tokenizer.idOf('▁cat')!]).parts).toEqual(['', '\ufffd cat', '']);
  });
});

test('a strip of two characters may be spread over two tokens', () => {
  const { json } = caseNamed('byte-fallback fixture')!;
  const decoders = [
    { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
    { type: 'Strip', content: ' ', start: 2, stop: 0 },
  ];
  const tokenizer = new Tokenizer({ ...json, decoder: { type: 'Sequence', decoders } }, {});
  const [mark, cat] = [tokenizer.idOf('▁')!, tokenizer.idOf('▁cat')!];
  expect(run(tokenizer, [mark, cat, cat]).text).toBe('cat cat');
  expect(run(tokenizer, [mark, mark, cat]).text).toBe(' cat');
});

describe("SentencePiece's leading space", () => {
  const { tokenizer } = load(caseNamed('byte-fallback fixture')!);
  const cat = tokenizer.idOf('▁cat')!;
  test('goes at the start of a text and stays after one', () => {
    expect(run(tokenizer, [cat]).text).toBe('cat');
    expect(run(tokenizer, [cat], { promptIds: [1] }).text).toBe('cat');
    expect(run(tokenizer, [cat], { promptIds: tokenizer.encode('the', 'add') }).text).toBe(' cat');
    expect(run(tokenizer, [cat, 2, cat], {}).text).toBe('cat cat');
    expect(run(tokenizer, [1, cat], { skipSpecial: false }).text).toBe('<s> cat');
  });
});

test('200,000 tokens that may always be the start of twenty stop strings all come out (an endless test means a push is not O(1))', () => {
  const { tokenizer } = load(caseNamed('byte-level fixture')!);
  const stop = Array.from({ length: 20 }, (_, i) => `${'-'.repeat(50)}${i}`);
  const dash = tokenizer.encode('-', 'none')[0]!;
  const { text } = run(tokenizer, new Array<number>(200_000).fill(dash), { stop });
  expect(text).toBe('-'.repeat(200_000));
});
