/** Prompt: a job's input as token ids, refused before it is tokenized when it cannot fit. */
import { NibbleError } from '../errors.ts';
import type { Input } from '../protocol.ts';
import type { ChatTemplate } from '../text/chat-template.ts';
import type { Tokenizer } from '../text/tokenizer.ts';

/** How far a normalizer may shrink a text: composing three characters of a Hangul syllable gives 9 bytes for 3; 4 leaves room. */
const SHRINKS_AT_MOST = 4;

export class PromptEncoder {
  readonly #tokenizer: Tokenizer;
  readonly #template: ChatTemplate | null;
  readonly #maxChars: number;
  readonly #contextTokens: number;

  /** Tokenizing a megabyte takes seconds in which no stream moves, so a text that cannot fit `contextTokens` is not tokenized. */
  constructor(tokenizer: Tokenizer, template: ChatTemplate | null, contextTokens: number) {
    this.#tokenizer = tokenizer;
    this.#template = template;
    this.#contextTokens = contextTokens;
    this.#maxChars = SHRINKS_AT_MOST * contextTokens * tokenizer.longestPieceChars;
  }

  /**
   * `keepTokens`: only the last so many count; null keeps all.
   * Throws `context_exceeded`, or `invalid_request` when the model has no template or its template refuses the messages.
   */
  encode(input: Input, keepTokens: number | null): number[] {
    const ids = input.kind === 'ids' ? input.ids : this.#tokenize(input, keepTokens);
    return keepTokens === null ? ids : ids.slice(-keepTokens);
  }

  #tokenize(input: Exclude<Input, { kind: 'ids' }>, keepTokens: number | null): number[] {
    let text = input.kind === 'text' ? input.text : this.#rendered(input.messages);
    if (text.length > this.#maxChars) {
      if (keepTokens === null) throw this.#tooLong(text);
      // More than the context's worth is cut off anyway.
      text = text.slice(-this.#maxChars);
    }
    return this.#tokenizer.encode(text, input.kind === 'text' ? input.specialTokens : 'none');
  }

  #rendered(messages: Extract<Input, { kind: 'chat' }>['messages']): string {
    if (this.#template !== null) return this.#template.render(messages);
    const reason = 'this model has no chat template; use /v1/completions or /generate';
    throw new NibbleError({ code: 'invalid_request', param: 'messages', reason });
  }

  #tooLong(text: string): NibbleError {
    const contextTokens = this.#contextTokens;
    const promptTokens = Math.ceil((contextTokens * text.length) / this.#maxChars);
    return new NibbleError({ code: 'context_exceeded', promptTokens, maxNewTokens: 1, contextTokens });
  }
}
