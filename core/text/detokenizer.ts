/**
 * Detokenizer: an answer's text, token by token, up to a stop string.
 *
 * The usual way (decode a window, compare with the last one, wait while it ends in U+FFFD) loses a space after skipped tokens and never
 * gives up on bytes that are no character. Here the decoder itself runs token by token (piece-decoder.ts), so a push costs its own text.
 */
import { NibbleError } from '../errors.ts';
import { StopMatcher } from './stop-matcher.ts';
import type { Tokenizer, TokenStream } from './tokenizer.ts';

export interface DetokenizerOptions {
  stop: readonly string[];
  /**
   * 'drop' (OpenAI): the answer ends before the stop string that is complete first, even inside a token; text that may be the start of
   * one is held back. 'keep' (text-generation-inference): text comes out at once, and the answer ends when a stop string ends at a
   * token's end.
   */
  stopText: 'keep' | 'drop';
  /** Whether control tokens give no text; they do not by default. */
  skipSpecial?: boolean;
  /** What the answer follows: it decides whether a leading space belongs to the answer. All of the prompt, or its end with some text in it. */
  promptIds?: readonly number[];
}

/** Promise: the texts of all pushes and the flush, joined, are decode(prompt + answer) without decode(prompt), cut at the stop. */
export class Detokenizer {
  readonly #stream: TokenStream;
  readonly #matcher: StopMatcher;
  readonly #stopText: 'keep' | 'drop';
  /** Decoded and not yet given out: it may be the start of a stop string. */
  #held = '';
  #stopped = false;

  constructor(tokenizer: Tokenizer, options: DetokenizerOptions) {
    if (options.stop.includes(''))
      throw new NibbleError({ code: 'invalid_request', param: 'stop', reason: 'A stop string must not be empty.' });
    // Decoded text never has half a surrogate pair, so neither may a stop string: a cut would leave the other half.
    this.#matcher = new StopMatcher(options.stop.map((text) => text.toWellFormed()));
    this.#stopText = options.stopText;
    this.#stream = tokenizer.stream(options.skipSpecial ?? true);
    // A character begun by the prompt's last bytes and finished by the answer belongs to the answer.
    for (const id of options.promptIds ?? []) this.#stream.push(id);
  }

  /** The text that became certain with this token. After `stopped` nothing more comes: further pushes give ''. */
  push(id: number): { text: string; stopped: boolean } {
    return this.#take(this.#stream.push(id));
  }

  /** The answer is over: the text that was still held back, an unfinished character as U+FFFD. */
  flush(): string {
    const { text } = this.#take(this.#stream.flush());
    const rest = this.#held;
    this.#held = '';
    return text + rest;
  }

  #take(decoded: string): { text: string; stopped: boolean } {
    if (this.#stopped) return { text: '', stopped: true };
    switch (this.#stopText) {
      case 'keep':
        return this.#keep(decoded);
      case 'drop':
        return this.#drop(decoded);
      default:
        return this.#stopText satisfies never;
    }
  }

  #keep(decoded: string): { text: string; stopped: boolean } {
    let completed = 0;
    for (let i = 0; i < decoded.length; i++) completed = this.#matcher.push(decoded[i]!);
    this.#stopped = completed > 0;
    return { text: decoded, stopped: this.#stopped };
  }

  #drop(decoded: string): { text: string; stopped: boolean } {
    const text = this.#held + decoded;
    for (let i = this.#held.length; i < text.length; i++) {
      const length = this.#matcher.push(text[i]!);
      if (length === 0) continue;
      this.#held = '';
      this.#stopped = true;
      return { text: text.slice(0, i + 1 - length), stopped: true };
    }
    const certain = text.length - this.#matcher.pending;
    this.#held = text.slice(certain);
    return { text: text.slice(0, certain), stopped: false };
  }
}
