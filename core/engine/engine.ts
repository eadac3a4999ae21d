/** Engine: jobs in, frames out. One `step()` runs one batch of prefill chunks and decodes and samples a token for each that is ready. */
import { type Failure, failureOf, NibbleError } from '../errors.ts';
import type { KvDtype } from '../model/backend.ts';
import type { Graph } from '../model/graph.ts';
import type { FinishReason, Job, TokenOut } from '../protocol.ts';
import type { ChatTemplate } from '../text/chat-template.ts';
import { Detokenizer } from '../text/detokenizer.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { makeBatch } from './batch.ts';
import { KvPages } from './kv-pages.ts';
import { PromptEncoder } from './prompt.ts';
import { type RowRequest, RowSampler } from './row-sampler.ts';
import { resolveSampling, type Sampled } from './sampler.ts';
import { type Chunk, Scheduler, type SchedulerLimits } from './scheduler.ts';
import { finishReason, newTokensOf, type Sequence } from './sequence.ts';

/** Tokens in a page: vLLM's and TGI's paged size; small enough that a short answer wastes little. */
export const PAGE_TOKENS = 16;

export interface EngineOptions extends SchedulerLimits {
  /** Tokens of all sequences together that the cache holds; rounded up to pages. */
  maxCachedTokens: number;
  /** null or absent: what the backend likes best. */
  kvDtype?: KvDtype | null;
  /** What prompt and answer together may have; absent: the model's context. */
  maxContextTokens?: number;
  /** What a prompt may have; absent: what leaves room for a token. */
  maxPromptTokens?: number;
  /** Sees every batch before it runs. */
  onBatch?: (chunks: readonly Chunk[]) => void;
}

/** What a step did for one job. `from`: place of the token among the answer's. */
export type EngineEvent =
  | { kind: 'token'; jobId: string; from: number; token: TokenOut }
  | { kind: 'finished'; jobId: string; reason: FinishReason; tokens: number; text: string }
  | { kind: 'failed'; jobId: string; failure: Failure };

export interface Accepted {
  promptIds: readonly number[];
}

export class Engine {
  #graph: Graph;
  readonly #kvDtype: KvDtype | null;
  readonly #tokenizer: Tokenizer;
  readonly #prompts: PromptEncoder;
  /** What prompt and answer together may have. */
  readonly #contextTokens: number;
  readonly #pages: KvPages;
  readonly #scheduler: Scheduler;
  readonly #eosTokenIds: ReadonlySet<number>;
  readonly #sequences = new Map<string, Sequence>();
  readonly #maxPromptTokens: number;
  readonly #onBatch: (chunks: readonly Chunk[]) => void;
  /** Jobs whose answer was whole when they came, and its end. */
  readonly #whole = new Map<string, EngineEvent>();
  #stepTokens = 0;

  constructor(graph: Graph, tokenizer: Tokenizer, template: ChatTemplate | null, options: EngineOptions) {
    const { config } = graph;
    this.#graph = graph;
    this.#tokenizer = tokenizer;
    this.#eosTokenIds = new Set(config.eosTokenIds);
    this.#pages = new KvPages(Math.ceil(options.maxCachedTokens / PAGE_TOKENS), PAGE_TOKENS);
    this.#scheduler = new Scheduler(this.#pages, options);
    const maxContextTokens = options.maxContextTokens ?? config.contextTokens;
    this.#contextTokens = Math.min(config.contextTokens, maxContextTokens, this.#pages.pages * PAGE_TOKENS);
    this.#prompts = new PromptEncoder(tokenizer, template, this.#contextTokens);
    this.#kvDtype = options.kvDtype ?? null;
    this.#maxPromptTokens = options.maxPromptTokens ?? this.#contextTokens;
    this.#onBatch = options.onBatch ?? (() => {});
    this.#allocateKv();
  }

  /** Jobs that wait or run. */
  get numJobs(): number {
    return this.#sequences.size;
  }

  /** Those of them that wait for a place. */
  get numWaiting(): number {
    return this.#scheduler.numWaiting;
  }

  /** Tokens that the last step computed. */
  get stepTokens(): number {
    return this.#stepTokens;
  }

  /**
   * Takes a job, or says why not. `emittedIds` is the answer so far, from an earlier lease: the engine goes on after it, with the events
   * that the earlier one would have had. An answer that was whole already has only its end.
   * A second job of the same id is a `conflict`.
   */
  add(job: Job, emittedIds: readonly number[]): Accepted | Failure {
    try {
      return this.#accept(job, emittedIds);
    } catch (error) {
      return failureOf(error);
    }
  }

  /** Forgets the job and frees its pages; no event follows. */
  cancel(jobId: string): void {
    const sequence = this.#sequences.get(jobId);
    if (sequence === undefined) return;
    this.#sequences.delete(jobId);
    this.#whole.delete(jobId);
    this.#scheduler.remove(sequence);
  }

  /** Runs one batch. With no job it returns at once. A failing backend rejects, and nothing is lost: the next step runs the same tokens; a failing row fails its own job only. */
  async step(): Promise<EngineEvent[]> {
    const chunks = this.#scheduler.next();
    this.#stepTokens = chunks.reduce((sum, { count }) => sum + count, 0);
    if (chunks.length === 0) return this.#endWhole();
    this.#onBatch(chunks);
    const logits = this.#graph.enqueue(makeBatch(chunks, PAGE_TOKENS, 'ends'));
    const ready = chunks
      .filter(({ sequence, count }) => sequence.numCachedTokens + count === sequence.ids.length)
      .map(({ sequence }) => sequence);
    const rows = logits === null ? null : await RowSampler.over(this.#graph.backend, logits, ready.map(requestOf));
    const sampled = rows === null ? [] : await Promise.all(ready.map((_, row) => settled(rows.sample(row))));
    for (const { sequence, count } of chunks) if (this.#runs(sequence)) sequence.numCachedTokens += count;
    const events = this.#endWhole();
    ready.forEach((sequence, row) => {
      if (this.#runs(sequence)) this.#extend(sequence, sampled[row]!, events);
    });
    return events;
  }

  /** Goes on with the same model on a backend opened anew: what the old one had cached is computed again. */
  restart(graph: Graph): void {
    this.#graph = graph;
    this.#scheduler.preemptAll();
    this.#allocateKv();
  }

  #allocateKv(): void {
    const { config, backend } = this.#graph;
    const { layers, kvHeads, headDim } = config;
    const dtype = this.#kvDtype ?? backend.defaultKvDtype;
    backend.allocateKv({ layers, kvHeads, headDim, pages: this.#pages.pages, pageTokens: PAGE_TOKENS, dtype });
  }

  /** False once it was cancelled, also while a batch ran. */
  #runs(sequence: Sequence): boolean {
    return this.#sequences.get(sequence.job.id) === sequence;
  }

  #accept(job: Job, emittedIds: readonly number[]): Accepted {
    const { vocabSize } = this.#graph.config;
    const contextTokens = this.#contextTokens;
    if (this.#sequences.has(job.id))
      return raise({ code: 'conflict', reason: `job ${job.id} is already running here` });
    const promptIds = this.#prompts.encode(job.input, job.truncatePromptTokens);
    const outside = [...promptIds, ...emittedIds].find((id) => id >= vocabSize);
    if (outside !== undefined)
      return raise({
        code: 'invalid_request',
        param: 'prompt',
        reason: `token id ${outside} is outside the vocabulary of ${vocabSize}`,
      });
    if (promptIds.length === 0)
      return raise({ code: 'invalid_request', param: 'prompt', reason: 'the prompt is empty' });
    if (promptIds.length > this.#maxPromptTokens)
      return raise({
        code: 'context_exceeded',
        promptTokens: promptIds.length,
        maxNewTokens: 1,
        contextTokens: this.#maxPromptTokens,
      });
    const room = contextTokens - promptIds.length;
    if (room < (job.maxNewTokens ?? 1))
      return raise({
        code: 'context_exceeded',
        promptTokens: promptIds.length,
        maxNewTokens: job.maxNewTokens ?? 1,
        contextTokens,
      });
    if (promptIds.length > job.promptTokenLimit)
      return raise({
        code: 'reservation_exceeded',
        promptTokens: promptIds.length,
        reservedTokens: job.promptTokenLimit,
      });
    const detokenizer = new Detokenizer(this.#tokenizer, { stop: job.stop, stopText: job.stopText, promptIds });
    let stopped = false;
    for (const id of emittedIds) if (!this.#ends(job, id)) stopped = detokenizer.push(id).stopped;
    const sequence: Sequence = {
      job,
      sampling: resolveSampling(job.sampling, this.#graph.config.sampling),
      ids: [...promptIds, ...emittedIds],
      promptTokens: promptIds.length,
      maxNewTokens: job.maxNewTokens ?? room,
      // The last new token is never fed back.
      plannedTokens:
        (job.maxNewTokens === null ? this.#graph.config.contextTokens : promptIds.length + job.maxNewTokens) - 1,
      numCachedTokens: 0,
      pageIds: [],
      detokenizer,
    };
    this.#sequences.set(job.id, sequence);
    const reason = emittedIds.length === 0 ? null : finishReason(sequence, this.#eosTokenIds, stopped);
    if (reason === null) this.#scheduler.add(sequence);
    else {
      const end = { kind: 'finished', jobId: job.id, reason, tokens: emittedIds.length } as const;
      this.#whole.set(job.id, { ...end, text: detokenizer.flush() });
    }
    return { promptIds };
  }

  #endWhole(): EngineEvent[] {
    const events = [...this.#whole.values()];
    for (const { jobId } of events) this.cancel(jobId);
    return events;
  }

  /** Whether this token ends the job's answer without being text. */
  #ends(job: Job, id: number): boolean {
    return job.eos === 'stop' && this.#eosTokenIds.has(id);
  }

  #extend(sequence: Sequence, sampled: Sampled | NibbleError, events: EngineEvent[]): void {
    const { job, ids, detokenizer } = sequence;
    const from = newTokensOf(sequence);
    try {
      if (sampled instanceof NibbleError) throw sampled;
      const { id, logprob, top } = sampled;
      ids.push(id);
      const special = this.#tokenizer.isSpecial(id);
      const { text, stopped } = this.#ends(job, id) ? { text: '', stopped: false } : detokenizer.push(id);
      const alternatives = top.map((other) => ({ ...other, text: this.#tokenizer.textOf(other.id) }));
      events.push({ kind: 'token', jobId: job.id, from, token: { id, logprob, text, special, top: alternatives } });
      const reason = finishReason(sequence, this.#eosTokenIds, stopped);
      if (reason === null) return;
      events.push({ kind: 'finished', jobId: job.id, reason, tokens: from + 1, text: detokenizer.flush() });
    } catch (error) {
      events.push({ kind: 'failed', jobId: job.id, failure: failureOf(error) });
    }
    this.cancel(job.id);
  }
}

/** The draw of a sequence's next token. */
function requestOf({ sampling, job, ids }: Sequence): RowRequest {
  return { sampling, topLogprobs: job.topLogprobs, position: ids.length };
}

/** A row's failure as a value; anything else goes on up. */
async function settled(sampled: Promise<Sampled>): Promise<Sampled | NibbleError> {
  try {
    return await sampled;
  } catch (error) {
    if (error instanceof NibbleError && error.failure.code === 'generation_failed') return error;
    throw error;
  }
}

function raise(failure: Failure): never {
  throw new NibbleError(failure);
}
