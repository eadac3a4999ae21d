/** Job reader: a job's events for a surface: in order, without gaps, and always with an end. */
import type { TokenOut } from '../../core/protocol.ts';
import type { JobEvent } from './service.ts';

/** `cut`: the events stopped before their end, or a token is missing. Nothing comes after it. */
export type JobRead = JobEvent | { type: 'cut'; reason: string };
export type JobEnd = Extract<JobRead, { type: 'finished' | 'failed' | 'cut' }>;

/** A stream's headers wait so long for the job's lease, so that 503 and 429 can still be a status. */
export const LEASE_WAIT_MS = 10_000;

export class JobReader {
  readonly #reader: ReadableStreamDefaultReader<JobEvent>;
  /** A read that `first` began and did not hand out. */
  #pending: Promise<JobRead> | null = null;
  #numTokens = 0;

  constructor(events: ReadableStream<JobEvent>) {
    this.#reader = events.getReader();
  }

  /** Never rejects: a stream that breaks or closes early reads as `cut`. */
  next(): Promise<JobRead> {
    const read = this.#pending ?? this.#read();
    this.#pending = null;
    return read;
  }

  /** The first event that says something, or null when none came in time; it then comes from `next`. */
  async first(maxWaitMs: number): Promise<JobRead | null> {
    let timer: ReturnType<typeof setTimeout> | null = null;
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(() => resolve(null), maxWaitMs);
    });
    try {
      for (;;) {
        this.#pending ??= this.#read();
        const event = await Promise.race([this.#pending, late]);
        if (event === null) return null;
        this.#pending = null;
        if (event.type !== 'waiting') return event;
      }
    } finally {
      if (timer !== null) clearTimeout(timer);
    }
  }

  /** Reads to the end and keeps the answer. */
  async collect(): Promise<{ end: JobEnd; tokens: TokenOut[]; text: string; startedMs: number | null }> {
    const tokens: TokenOut[] = [];
    let text = '';
    let startedMs: number | null = null;
    for (;;) {
      const event = await this.next();
      switch (event.type) {
        case 'waiting':
          break;
        case 'started':
          startedMs ??= Date.now();
          break;
        case 'tokens':
          tokens.push(...event.tokens);
          for (const token of event.tokens) text += token.text;
          break;
        case 'finished':
          return { end: event, tokens, text: text + event.text, startedMs };
        case 'failed':
        case 'cut':
          return { end: event, tokens, text, startedMs };
        default:
          return event satisfies never;
      }
    }
  }

  /** The client has left; the service cancels the job. */
  async cancel(reason: unknown): Promise<void> {
    try {
      await this.#reader.cancel(reason);
    } catch (error) {
      console.error('a job could not be cancelled:', error);
    }
  }

  async #read(): Promise<JobRead> {
    try {
      const { done, value } = await this.#reader.read();
      if (done) return { type: 'cut', reason: 'the events closed without finished or failed' };
      return value.type === 'tokens' ? this.#inOrder(value) : value;
    } catch (error) {
      return { type: 'cut', reason: `the events broke: ${error instanceof Error ? error.message : String(error)}` };
    }
  }

  /** Tokens seen before (a re-attached job repeats them) are dropped; a gap ends the answer, since text would be missing. */
  #inOrder(event: Extract<JobEvent, { type: 'tokens' }>): JobRead {
    if (event.from > this.#numTokens) {
      const reason = `token ${event.from} came when ${this.#numTokens} was next`;
      void this.cancel(reason);
      return { type: 'cut', reason };
    }
    const fresh = event.tokens.slice(this.#numTokens - event.from);
    if (fresh.length === 0) return { type: 'waiting' };
    const from = this.#numTokens;
    this.#numTokens += fresh.length;
    return { type: 'tokens', from, tokens: fresh };
  }
}
