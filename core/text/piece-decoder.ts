/**
 * Piece decoder: a tokenizer's decoder, token by token. The library decodes whole answers only; here each token yields the text that is
 * certain with it, in time proportional to the token, and the sum of the parts is the library's text.
 */
import { ReplaceDecoder } from '@huggingface/tokenizers';
import { z } from 'zod';
import { NibbleError } from '../errors.ts';

const Step = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ByteLevel') }),
  z.object({ type: z.literal('Metaspace'), replacement: z.string().min(1).max(16).nullish() }),
  z.object({
    type: z.literal('Replace'),
    pattern: z.union([z.object({ String: z.string().max(1000) }), z.object({ Regex: z.string().max(1000) })]),
    content: z.string().max(1000),
  }),
  z.object({ type: z.literal('ByteFallback') }),
  z.object({ type: z.literal('Fuse') }),
  z.object({ type: z.literal('Strip'), content: z.string().length(1), start: z.int().min(0), stop: z.literal(0) }),
]);

/** What a tokenizer's decoder does, in the order it does it. */
export interface DecodingRules {
  /** From a token's piece to text: SentencePiece's "▁" to a space, mostly. */
  replaceAll(piece: string): string;
  /** How pieces stand for bytes: as GPT-2's alphabet, as <0xFF> tokens, or not at all. */
  bytes: 'alphabet' | 'fallback' | 'none';
  /** Whether added tokens are text as they are, outside GPT-2's alphabet. */
  addedAreText: boolean;
  /** Leading characters that the whole text loses. */
  strip: { content: string; count: number } | null;
  /** Whether the first token loses one leading space. */
  trimFirstToken: boolean;
}

/** Reads tokenizer.json's `decoder`. Throws `model_unsupported` for one that cannot be streamed (CTC, WordPiece, a trailing strip). */
export function decodingRules(decoder: unknown, file: string): DecodingRules {
  const unsupported = (reason: string) =>
    new NibbleError({ code: 'model_unsupported', file, option: 'decoder', reason });
  const isSequence = (value: unknown): value is { decoders: unknown[] } =>
    typeof value === 'object' &&
    value !== null &&
    'type' in value &&
    value.type === 'Sequence' &&
    'decoders' in value &&
    Array.isArray(value.decoders);
  const rules: DecodingRules = {
    replaceAll: (piece) => piece,
    bytes: 'none',
    addedAreText: false,
    strip: null,
    trimFirstToken: false,
  };
  let stage: 'pieces' | 'tokens' | 'text' = 'pieces';
  for (const json of isSequence(decoder) ? decoder.decoders : [decoder]) {
    const parsed = Step.safeParse(json);
    if (!parsed.success) throw unsupported(`${JSON.stringify(json)?.slice(0, 200)} cannot be decoded token by token`);
    const step = parsed.data;
    const wrongPlace = unsupported(`"${step.type}" cannot come after a step that joins pieces`);
    switch (step.type) {
      case 'Replace': {
        if (stage !== 'pieces') throw wrongPlace;
        rules.replaceAll = afterwards(rules.replaceAll, new ReplaceDecoder(step));
        break;
      }
      case 'ByteLevel':
      case 'ByteFallback':
        if (stage !== 'pieces') throw wrongPlace;
        rules.bytes = step.type === 'ByteLevel' ? 'alphabet' : 'fallback';
        rules.addedAreText = step.type === 'ByteLevel' && !isSequence(decoder);
        stage = 'tokens';
        break;
      case 'Metaspace': {
        if (stage !== 'pieces') throw wrongPlace;
        const before = rules.replaceAll;
        rules.replaceAll = (piece) => before(piece).replaceAll(step.replacement ?? '▁', ' ');
        rules.trimFirstToken = true;
        stage = 'tokens';
        break;
      }
      case 'Fuse':
        stage = 'text';
        break;
      case 'Strip':
        if (stage !== 'text' || rules.strip !== null) throw wrongPlace;
        rules.strip = { content: step.content, count: step.start };
        break;
      default:
        step satisfies never;
    }
  }
  return rules;
}

function afterwards(before: (piece: string) => string, replace: ReplaceDecoder): (piece: string) => string {
  return (piece) => replace.decode_chain([before(piece)]).join('');
}

/** One text's decoding in progress. */
export class PieceStream {
  readonly #rules: DecodingRules;
  /** Holds the bytes of an unfinished character; gives U+FFFD for bytes as soon as they cannot be completed. */
  readonly #utf8: TextDecoder;
  #isFirstToken = true;
  #left: number;

  constructor(rules: DecodingRules) {
    this.#rules = rules;
    this.#left = rules.strip?.count ?? 0;
    // As the library's decoders: a byte order mark stays with ByteLevel and goes with ByteFallback.
    this.#utf8 = new TextDecoder('utf-8', { fatal: false, ignoreBOM: rules.bytes === 'alphabet' });
  }

  /** The text that became certain with this piece: whole characters. */
  push(piece: string, isAdded: boolean): string {
    const { bytes, addedAreText, replaceAll, trimFirstToken } = this.#rules;
    const first = this.#isFirstToken;
    this.#isFirstToken = false;
    if (bytes === 'alphabet' && !(isAdded && addedAreText))
      return this.#strip(this.#utf8.decode(alphabetBytes(replaceAll(piece)), { stream: true }));
    const text = replaceAll(piece);
    const byte = bytes === 'fallback' ? fallbackByte(text) : null;
    if (byte !== null) return this.#strip(this.#utf8.decode(Uint8Array.of(byte), { stream: true }));
    const trimmed = first && trimFirstToken && text.startsWith(' ') ? text.slice(1) : text;
    return this.#strip(this.#utf8.decode() + trimmed);
  }

  /** The end: bytes of a character that will not be finished come out as U+FFFD. */
  flush(): string {
    return this.#strip(this.#utf8.decode());
  }

  #strip(text: string): string {
    if (this.#left === 0 || text === '') return text;
    let cut = 0;
    while (cut < this.#left && text[cut] === this.#rules.strip!.content) cut++;
    this.#left = cut === text.length ? this.#left - cut : 0;
    return text.slice(cut);
  }
}

/** GPT-2's alphabet (openai/gpt-2, encoder.py, bytes_to_unicode): printable Latin-1 stands for itself, the other bytes for U+0100 upwards. */
const ALPHABET: ReadonlyMap<string, number> = new Map(
  Array.from({ length: 256 }, (_, byte) => byte)
    .filter((byte) => !isPrintable(byte))
    .map((byte, i): [string, number] => [String.fromCharCode(256 + i), byte])
    .concat(
      Array.from({ length: 256 }, (_, byte): [string, number] => [String.fromCharCode(byte), byte]).filter(([, byte]) =>
        isPrintable(byte),
      ),
    ),
);

function isPrintable(byte: number): boolean {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/** A character outside the alphabet counts as byte 0, as in the library. */
function alphabetBytes(piece: string): Uint8Array {
  return Uint8Array.from([...piece], (char) => ALPHABET.get(char) ?? 0);
}

/** The byte of "<0xE2>"; null for any other text. */
function fallbackByte(text: string): number | null {
  if (text.length !== 6 || !text.startsWith('<0x') || !text.endsWith('>')) return null;
  const byte = Number.parseInt(text.slice(3, 5), 16);
  return Number.isNaN(byte) ? null : byte;
}
