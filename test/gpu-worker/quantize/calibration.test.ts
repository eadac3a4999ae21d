/** Calibration data: the windows that GPTQ's scripts draw, samples in order, and what is too little. */
import { expect, test } from 'vitest';
import { type CalibrationText, parseCalibration, sampleCalibration } from '../../../gpu-worker/quantize/calibration.ts';
import { PythonRandom } from '../../../gpu-worker/quantize/python-random.ts';

const sample = (content: CalibrationText, more: object = {}) =>
  sampleCalibration(content, {
    file: 'data',
    samples: 3,
    windowTokens: 4,
    seed: 0,
    // A token a character.
    encode: (text) => [...text].map((character) => character.codePointAt(0)!),
    ...more,
  });

test.each([
  // python3 -c "import random; random.seed(S); print([random.randint(0, 2400000) for _ in range(5)])"
  [0, [1615835, 1764005, 169803, 1085975, 2144441]],
  [42, [466956, 104902, 1153556, 1027150, 936213]],
  [2 ** 40 + 7, [2392391, 1996170, 1052117, 531631, 2167677]],
])("seed %i draws Python's numbers", (seed, expected) => {
  const random = new PythonRandom(seed);
  expect(Array.from({ length: 5 }, () => random.randint(0, 2_400_000))).toEqual(expected);
});

test('a text gives windows at random places, the same for a seed', () => {
  const text = { kind: 'text', text: 'abcdefghijklmnopqrstuvwxyz' } as const;
  const windows = sample(text);
  expect(windows).toHaveLength(3);
  for (const window of windows) expect(window).toEqual([0, 1, 2, 3].map((i) => window[0]! + i));
  expect(sample(text)).toEqual(windows);
  expect(sample(text, { seed: 1 })).not.toEqual(windows);
  expect(() => sample({ kind: 'text', text: 'abcd' })).toThrow(/data: holds 4 tokens; a window of --seqlen 4/);
});

test('samples come in order, cut, short ones kept, empty ones not', () => {
  const texts = ['abcdef', '', 'x', 'ab', 'cd'];
  expect(sample({ kind: 'samples', texts }).map((ids) => String.fromCodePoint(...ids))).toEqual(['abcd', 'x', 'ab']);
  expect(() => sample({ kind: 'samples', texts: [''] })).toThrow(/no text with a token/);
});

test('texts of nothing but blanks are empty, though a tokenizer puts its first token before them', () => {
  const encode = (text: string) => [1, ...[...text].map((character) => character.codePointAt(0)!)];
  expect(sample({ kind: 'samples', texts: ['', 'x', ' \n'] }, { encode })).toEqual([[1, 120]]);
  expect(() => sample({ kind: 'samples', texts: ['', ' '] }, { encode })).toThrow(/data: holds no text with a token/);
});

test('documents that are too short are drawn again, and none long enough is an error', () => {
  const texts = ['ab', 'abcdefgh', 'a'];
  for (const window of sample({ kind: 'documents', texts }, { samples: 20 })) expect(window).toHaveLength(4);
  expect(() => sample({ kind: 'documents', texts: ['ab', 'c'] })).toThrow(/no document of more than --seqlen 4/);
});

test.each([
  ['["a", {"text": "b"}]', 'x.json', { kind: 'samples', texts: ['a', 'b'] }],
  ['{"text": "a"}\n\n{"text": "b", "id": 1}\n', 'x.jsonl', { kind: 'samples', texts: ['a', 'b'] }],
  ['"a"\n"b"', 'x.jsonl', { kind: 'samples', texts: ['a', 'b'] }],
  ['{curly text\nin a play}', 'x.txt', { kind: 'text', text: '{curly text\nin a play}' }],
])('%s is read as what it is', (content, file, expected) => {
  expect(parseCalibration(content, file)).toEqual(expected);
});

test.each([
  [' \n', 'x.txt', /x\.txt: is empty/],
  ['[]', 'x.json', /x\.json: is an empty JSON array/],
  ['[1]', 'x.json', /x\.json: sample 1 is neither/],
  ['{"prompt": "a"}', 'x.jsonl', /x\.jsonl: sample 1 is neither/],
  ['{broken', 'x.jsonl', /x\.jsonl: is neither a JSON array nor/],
])('%s is refused by name', (content, file, expected) => {
  expect(() => parseCalibration(content, file)).toThrow(expected);
});
