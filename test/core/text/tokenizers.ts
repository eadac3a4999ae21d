/** Tokenizers for the tests: the two small ones of the repository, the demo model's, and real ones where shared data is. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { Tokenizer } from '../../../core/text/tokenizer.ts';
import { sharedData } from '../../shared-data.ts';

export interface TokenizerCase {
  name: string;
  json: object;
  config: object;
}

const root = resolve(import.meta.dirname, '../../..');
const paths: Record<string, string | null> = {
  'byte-fallback fixture': join(root, 'test/fixtures/tokenizers/byte-fallback/tokenizer.json'),
  'byte-level fixture': join(root, 'test/fixtures/tokenizers/byte-level/tokenizer.json'),
  demo: join(root, 'models/demo/f16/tokenizer.json'),
  stories260k: sharedData('stories260k/tokenizer.json'),
  llama2: sharedData('tokenizers/llama2/tokenizer.json'),
  falcon: sharedData('tokenizers/falcon/tokenizer.json'),
};

function readObject(path: string): object {
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as object) : {};
}

/** Those that are here, in the order above. */
export const tokenizerCases: TokenizerCase[] = Object.entries(paths).flatMap(([name, path]) =>
  path === null || !existsSync(path)
    ? []
    : [{ name, json: readObject(path), config: readObject(join(dirname(path), 'tokenizer_config.json')) }],
);

const loaded = new Map<TokenizerCase, { tokenizer: Tokenizer; library: LibraryTokenizer }>();

/** Ours, and the library's own for comparison; loaded once. */
export function load(one: TokenizerCase): { tokenizer: Tokenizer; library: LibraryTokenizer } {
  const pair = loaded.get(one) ?? {
    tokenizer: new Tokenizer(one.json, one.config),
    library: new LibraryTokenizer(one.json, { ...one.config, clean_up_tokenization_spaces: false }),
  };
  loaded.set(one, pair);
  return pair;
}

export function caseNamed(name: string): TokenizerCase | null {
  return tokenizerCases.find((one) => one.name === name) ?? null;
}

/** Texts with what decoding and counting get wrong: spaces, marks, emoji, right-to-left, controls, half a surrogate pair. */
export const nastyTexts = [
  '',
  ' ',
  'Hello, world!',
  '  two  leading and   inner spaces ',
  '▁ the mark itself ▁▁x',
  'naïve café é e\u0301',
  '日本語 中文 한국어',
  '👩‍👩‍👧‍👦 🏳️‍🌈 😀😀',
  '\u202eright to left\u202c שלום عليكم',
  '\ufeffbyte order mark\ufeff',
  '\u0000\u0001\t\n\r\n  \n',
  'U+FFFD \ufffd itself',
  'half \ud83d a pair \ude00',
  '<s>special</s> <unk> <|endoftext|> <|end|><tool><tööl>',
  '\u{1d160}\u0390\ufdfa\u0130\u1e9e',
  `a${'\u0301'.repeat(40)}`,
  'x'.repeat(300),
  '<0x41><0xE2>',
];
