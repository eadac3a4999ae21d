/** Tokenizer: text to token ids and back, by a checkpoint's own tokenizer.json, through @huggingface/tokenizers. */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { NibbleError } from '../errors.ts';
import { type DecodingRules, decodingRules, PieceStream } from './piece-decoder.ts';

const FILE = 'tokenizer.json';
/** The protocol's bound of a token id; the largest published vocabularies have 262,144. */
const MAX_TOKEN_ID = 2 ** 24;

const AddedToken = z.object({ id: z.int().min(0).max(MAX_TOKEN_ID), content: z.string().min(1).max(1000) });
/** What is checked before the library sees it; the rest it reads in its own way. */
const TokenizerJson = z.looseObject({
  added_tokens: z.array(z.looseObject(AddedToken.shape)).max(MAX_TOKEN_ID).default([]),
  model: z.looseObject({ vocab: z.union([z.array(z.unknown()), z.custom<object>(isObject)]) }),
  decoder: z.unknown().default(null),
  normalizer: z.unknown().default(null),
  pre_tokenizer: z.unknown().default(null),
  post_processor: z.unknown().default(null),
});

/** A text's decoding in progress. */
export interface TokenStream {
  push(id: number): string;
  /** The end: an unfinished character comes out as U+FFFD. */
  flush(): string;
}

export class Tokenizer {
  /** One above the highest token id. A model's logits may have more columns: those ids have no piece. */
  readonly vocabSize: number;
  /** No token stands for more characters of text. */
  readonly longestPieceChars: number;
  readonly #library: LibraryTokenizer;
  readonly #decoding: DecodingRules;
  readonly #pieces: readonly (string | undefined)[];
  readonly #idByPiece: ReadonlyMap<string, number>;
  readonly #added: ReadonlySet<number>;
  readonly #special: ReadonlySet<number>;

  /**
   * Takes the parsed tokenizer.json and tokenizer_config.json. Throws `file_invalid` for a broken file and `model_unsupported`
   * for a decoder that cannot be streamed.
   */
  constructor(tokenizerJson: unknown, tokenizerConfig: unknown) {
    const parsed = TokenizerJson.safeParse(tokenizerJson);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw invalid(`${issue?.path.join('.')}: ${issue?.message}`);
    }
    const json = parsed.data;
    checkVocabulary(json.model.vocab);
    this.#decoding = decodingRules(json.decoder, FILE);
    try {
      this.#library = new LibraryTokenizer(json, libraryConfig(tokenizerConfig));
    } catch (error) {
      throw invalid(`cannot be loaded: ${(error as Error).message}`);
    }
    this.#pieces = this.#library.model?.vocab ?? [];
    this.vocabSize = this.#pieces.length;
    this.longestPieceChars = this.#pieces.reduce((longest, piece) => Math.max(longest, piece?.length ?? 0), 1);
    this.#idByPiece = this.#library.model?.tokens_to_ids ?? new Map();
    this.#added = new Set(json.added_tokens.map(({ id }) => id));
    this.#special = new Set([
      ...json.added_tokens.filter(({ special }) => special === true).map(({ id }) => id),
      ...specialNames(tokenizerConfig).flatMap((name) => this.#idByPiece.get(name) ?? []),
    ]);
  }

  /** 'add': with what the post-processor puts around a text, such as a beginning-of-sequence token. */
  encode(text: string, specialTokens: 'add' | 'none'): number[] {
    if (text === '' && specialTokens === 'none') return [];
    const { ids } = this.#library.encode(text, { add_special_tokens: specialTokens === 'add' });
    const missing = (ids as (number | undefined)[]).indexOf(undefined);
    if (missing >= 0) throw invalid(`has no id for token ${missing} of this text and no unknown token`);
    return ids;
  }

  /**
   * The text of `ids`, read from the start of a text: SentencePiece's leading space is gone. Ids without a piece give nothing.
   * Spaces before punctuation stay as the model wrote them (no clean_up_tokenization_spaces, which cannot be streamed).
   */
  decode(ids: readonly number[], options: { skipSpecial: boolean }): string {
    const stream = this.stream(options.skipSpecial);
    return ids.map((id) => stream.push(id)).join('') + stream.flush();
  }

  /** `decode`, token by token: each push gives the whole characters that became certain with its token. */
  stream(skipSpecial: boolean): TokenStream {
    return this.#stream(this.#decoding, skipSpecial);
  }

  /** The text one token adds in the middle of a text: a leading space stays; part of a character is U+FFFD. */
  textOf(id: number): string {
    const stream = this.#stream({ ...this.#decoding, strip: null, trimFirstToken: false }, false);
    return stream.push(id) + stream.flush();
  }

  #stream(decoding: DecodingRules, skipSpecial: boolean): TokenStream {
    const stream = new PieceStream(decoding);
    const push = (id: number) => {
      const piece = this.#pieces[id];
      return piece === undefined || (skipSpecial && this.#special.has(id))
        ? ''
        : stream.push(piece, this.#added.has(id));
    };
    return { push, flush: () => stream.flush() };
  }

  /** null when no token is written so. */
  idOf(piece: string): number | null {
    return this.#idByPiece.get(piece) ?? null;
  }

  /** As the vocabulary writes it ("▁the", "Ġthe", "<0x0A>"); null for an id without a token. */
  piece(id: number): string | null {
    return this.#pieces[id] ?? null;
  }

  /** Control tokens: those marked special, and those that tokenizer_config.json names. */
  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }
}

/** An object from piece to id, or Unigram's list of [piece, score]. */
function checkVocabulary(vocab: object): void {
  const entries = Array.isArray(vocab) ? vocab.map((pair, id) => [pair?.[0], id]) : Object.entries(vocab);
  for (const [piece, id] of entries)
    if (typeof piece !== 'string' || !isTokenId(id))
      throw invalid(
        `the vocabulary gives ${JSON.stringify(piece)?.slice(0, 100)} the id ${JSON.stringify(id)?.slice(0, 100)}`,
      );
}

/** Of tokenizer_config.json the library gets only what Llama-like models mean; the rest belongs to other tokenizers or to decoding. */
function libraryConfig(config: unknown): object {
  const eos = tokenContent(isObject(config) ? config.eos_token : null);
  return { clean_up_tokenization_spaces: false, ...(eos === null ? {} : { eos_token: eos }) };
}

/** additional_special_tokens, which may lack the mark in tokenizer.json. */
function specialNames(config: unknown): string[] {
  const more =
    isObject(config) && Array.isArray(config.additional_special_tokens) ? config.additional_special_tokens : [];
  return more.flatMap((token) => tokenContent(token) ?? []);
}

/** A token in tokenizer_config.json: its text, or an object with `content`. */
export function tokenContent(token: unknown): string | null {
  if (typeof token === 'string') return token;
  return isObject(token) && typeof token.content === 'string' ? token.content : null;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isTokenId(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_TOKEN_ID;
}

function invalid(rule: string): NibbleError {
  return new NibbleError({ code: 'file_invalid', file: FILE, tensor: null, rule });
}
