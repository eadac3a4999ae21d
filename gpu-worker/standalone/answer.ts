/** Answer: one job's events on their way from the engine to the response that reads them. */
import type { Failure } from '../../core/errors.ts';
import type { FinishReason, TokenOut } from '../../core/protocol.ts';
import type { JobEvent, Usage } from '../../edge/api/service.ts';

/** A stream that carried nothing for so long gets a `waiting`, which keeps proxies from closing it. */
const WAITING_MS = 15_000;

type EndEvent = Extract<JobEvent, { type: 'finished' | 'failed' }>;

/** A slow reader costs no more than the answer's tokens: it keeps a place, and no event is queued for it. */
export class Answer {
  readonly events: ReadableStream<JobEvent>;
  readonly tokens: TokenOut[] = [];
  readonly #backend: string;
  readonly #onClosed: () => void;
  #started: { promptTokens: number; cachedTokens: number } | null = null;
  #end: EndEvent | null = null;
  #startedSent = false;
  #tokensSent = 0;
  #closed = false;
  #wake: () => void = () => {};

  /** `onClosed`: its end was read, or the reader went away; called once. */
  constructor(backend: string, onClosed: () => void) {
    this.#backend = backend;
    this.#onClosed = onClosed;
    this.events = new ReadableStream<JobEvent>(
      { pull: (controller) => this.#pull(controller), cancel: () => this.#close() },
      { highWaterMark: 0 },
    );
  }

  get ended(): boolean {
    return this.#end !== null;
  }

  get usage(): Usage {
    const { promptTokens, cachedTokens } = this.#started ?? { promptTokens: 0, cachedTokens: 0 };
    return { promptTokens, cachedTokens, completionTokens: this.tokens.length, costPicoUsd: 0 };
  }

  start(promptTokens: number, cachedTokens: number): void {
    this.#started = { promptTokens, cachedTokens };
    this.#wake();
  }

  push(tokens: readonly TokenOut[]): void {
    this.tokens.push(...tokens);
    this.#wake();
  }

  finish(reason: FinishReason, text: string): void {
    this.#finish({ type: 'finished', reason, text, usage: this.usage, backend: this.#backend });
  }

  fail(failure: Failure): void {
    this.#finish({ type: 'failed', failure, usage: this.usage });
  }

  #finish(end: EndEvent): void {
    this.#end ??= end;
    this.#wake();
  }

  async #pull(controller: ReadableStreamDefaultController<JobEvent>): Promise<void> {
    const event = this.#next() ?? (await this.#awaited());
    if (this.#closed) return;
    controller.enqueue(event);
    if (event !== this.#end) return;
    controller.close();
    this.#close();
  }

  async #awaited(): Promise<JobEvent> {
    const changed = Promise.withResolvers<void>();
    this.#wake = changed.resolve;
    const timer = setTimeout(changed.resolve, WAITING_MS);
    await changed.promise;
    clearTimeout(timer);
    return this.#next() ?? { type: 'waiting' };
  }

  #next(): JobEvent | null {
    if (this.#started !== null && !this.#startedSent) {
      this.#startedSent = true;
      return { type: 'started', backend: this.#backend, ...this.#started };
    }
    const from = this.#tokensSent;
    if (from === this.tokens.length) return this.#end;
    this.#tokensSent = this.tokens.length;
    return { type: 'tokens', from, tokens: this.tokens.slice(from) };
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wake();
    this.#onClosed();
  }
}
