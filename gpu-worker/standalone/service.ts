/** StandaloneService: the Service behind the HTTP surfaces of a worker that has no edge: one key, one model, the engine's own queue. */
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import type { Failure } from '../../core/errors.ts';
import type { Frame, Job, ModelCard } from '../../core/protocol.ts';
import type { AccountView, BucketRow, UsageRow } from '../../edge/api/accounts.ts';
import { modelOf } from '../../edge/api/request.ts';
import type {
  Caller,
  JobRequest,
  Metered,
  Outcome,
  Service,
  Submission,
  SubmitOptions,
} from '../../edge/api/service.ts';
import type { ServedModel } from '../served-model.ts';
import { Worker } from '../worker.ts';
import { Answer } from './answer.ts';
import type { Metrics } from './metrics.ts';

export interface StandaloneOptions {
  /** null: no key is asked. */
  apiKey: string | null;
  /** Requests that run or wait; one more is refused with queue_full. */
  maxConcurrentRequests: number;
  log: (line: string) => void;
  metrics: Metrics;
  /** The device is gone for good; every answer has failed by then. */
  onBroken: (failure: Failure) => void;
}

/** Whoever has the key, or anybody where there is none. */
const CALLER: Caller = { accountId: 'standalone', keyId: 'standalone', secretHash: '', clientIp: null };
/** No limit and no budget is kept, so no header tells what is left of one. */
const HEADERS = {};
const UNAVAILABLE: Record<'broken' | 'stopping', Failure> = {
  broken: { code: 'unavailable', reason: "The model's device is gone." },
  stopping: { code: 'unavailable', reason: 'The server is stopping.' },
};
const NOT_IDEMPOTENT: Failure = {
  code: 'invalid_request',
  param: 'Idempotency-Key',
  reason: 'Idempotency-Key is not supported without an edge, which is what remembers requests; leave it out.',
};

export class StandaloneService implements Service {
  readonly #card: ModelCard;
  readonly #backend: string;
  readonly #options: StandaloneOptions;
  readonly #keyHash: Buffer | null;
  readonly #worker: Worker;
  /** Those whose end was not read yet, by job id. */
  readonly #answers = new Map<string, Answer>();
  #state: 'serving' | 'stopping' | 'broken' = 'serving';
  /** Whether the model itself failed on the last job that it ended. */
  #failing = false;
  #onIdle: (() => void)[] = [];

  constructor(model: Pick<ServedModel, 'card' | 'engine' | 'backendName' | 'reload'>, options: StandaloneOptions) {
    this.#card = model.card;
    this.#backend = model.backendName;
    this.#options = options;
    this.#keyHash = options.apiKey === null ? null : sha256(options.apiKey);
    this.#worker = new Worker(model.engine, (frames) => this.#receive(frames), options.log, {
      reload: () => model.reload(),
      onBroken: (failure) => {
        this.#state = 'broken';
        options.onBroken(failure);
      },
    });
  }

  async authenticate(authorization: string | undefined): Promise<Outcome<Caller>> {
    const key = /^bearer +(.+)$/i.exec(authorization ?? '')?.[1] ?? '';
    const isRight = this.#keyHash === null || timingSafeEqual(sha256(key), this.#keyHash);
    return isRight ? { ok: true, value: CALLER } : { ok: false, failure: { code: 'invalid_key' } };
  }

  async authorize(): Promise<Metered<null>> {
    return { ok: true, value: null, headers: HEADERS };
  }

  async submit(
    _caller: Caller,
    request: JobRequest,
    signal: AbortSignal,
    options?: SubmitOptions,
  ): Promise<Metered<Submission>> {
    const { metrics, maxConcurrentRequests } = this.#options;
    const refused = (failure: Failure): Metered<Submission> => ({ ok: false, failure, headers: HEADERS });
    if (this.#state !== 'serving') {
      metrics.refused('unavailable');
      return refused(UNAVAILABLE[this.#state]);
    }
    // A client that sends one counts on not paying twice for a retry.
    if (options?.idempotency) return refused(NOT_IDEMPOTENT);
    const asked = modelOf(request.model);
    if (asked !== null && asked !== this.#card.id) return refused({ code: 'model_not_found', model: asked });
    if (signal.aborted) return refused({ code: 'cancelled', tokens: 0 });
    const depth = this.#answers.size;
    if (depth >= maxConcurrentRequests) {
      metrics.refused('overloaded');
      return refused({ code: 'queue_full', depth, retryAfterS: 1 });
    }
    const { jobId, answer } = this.#begin(request);
    const leave = () => this.#leave(jobId);
    signal.addEventListener('abort', leave, { once: true });
    const createdS = Math.floor(Date.now() / 1000);
    return {
      ok: true,
      value: { jobId, model: this.#card.id, createdS, replayed: false, events: answer.events },
      headers: HEADERS,
    };
  }

  async models(): Promise<Metered<ModelCard[]>> {
    return { ok: true, value: [this.#card], headers: HEADERS };
  }

  async usage(): Promise<Metered<UsageRow[]>> {
    return noLedger();
  }

  async usageBuckets(): Promise<Metered<BucketRow[]>> {
    return noLedger();
  }

  async account(): Promise<Metered<AccountView>> {
    return noLedger();
  }

  /** After a failure of the model itself, a token of it is asked for, as TGI does. */
  async isHealthy(): Promise<boolean> {
    if (this.#state !== 'serving') return false;
    if (!this.#failing) return true;
    const { answer } = this.#begin(PROBE);
    let last = 'none';
    for await (const event of answer.events) last = event.type;
    return last === 'finished';
  }

  /** Takes no requests from now on. Resolves when every answer was read to its end. */
  async drain(): Promise<void> {
    if (this.#state === 'serving') this.#state = 'stopping';
    if (this.#answers.size > 0) await new Promise<void>((resolve) => this.#onIdle.push(resolve));
  }

  /** Ends every answer with an error that its reader sees, and resolves when the engine rests. */
  async stop(): Promise<void> {
    this.#worker.cancelAll();
    for (const [jobId, answer] of this.#answers) if (!answer.ended) this.#fail(jobId, answer, UNAVAILABLE.stopping);
    await this.#worker.idle();
  }

  #begin(request: JobRequest): { jobId: string; answer: Answer } {
    const jobId = randomUUID();
    const answer = new Answer(this.#backend, () => this.#leave(jobId));
    this.#answers.set(jobId, answer);
    const job: Job = { ...request, id: jobId, model: this.#card.id, promptTokenLimit: this.#card.contextTokens };
    this.#options.metrics.began(job);
    this.#worker.lease(job, 1, []);
    return { jobId, answer };
  }

  /** The end was read, or the reader went away: then nobody wants the rest. */
  #leave(jobId: string): void {
    const answer = this.#answers.get(jobId);
    if (answer === undefined) return;
    this.#answers.delete(jobId);
    if (!answer.ended) {
      this.#worker.cancel(jobId);
      answer.fail({ code: 'cancelled', tokens: answer.tokens.length });
      this.#options.metrics.ended(jobId, { failed: 'dropped' }, answer.usage);
    }
    if (this.#answers.size === 0) for (const resolve of this.#onIdle.splice(0)) resolve();
  }

  #receive(frames: readonly Frame[]): void {
    for (const frame of frames) {
      const answer = this.#answers.get(frame.jobId);
      if (answer === undefined) continue;
      switch (frame.kind) {
        case 'started':
          answer.start(frame.promptTokens, frame.cachedTokens);
          break;
        case 'tokens':
          answer.push(frame.tokens);
          break;
        case 'finished':
          this.#failing = false;
          answer.finish(frame.reason, frame.text);
          this.#options.metrics.ended(frame.jobId, 'succeeded', answer.usage);
          break;
        case 'failed':
          this.#failing ||= !isTheRequests(frame.failure);
          this.#fail(frame.jobId, answer, frame.failure);
          break;
        default:
          frame satisfies never;
      }
    }
  }

  #fail(jobId: string, answer: Answer, failure: Failure): void {
    answer.fail(failure);
    this.#options.metrics.ended(jobId, isTheRequests(failure) ? 'invalid' : { failed: 'generation' }, answer.usage);
  }
}

/** One token after the vocabulary's first. */
const PROBE: JobRequest = {
  model: null,
  input: { kind: 'ids', ids: [0] },
  sampling: { temperature: 0, topK: 0, topP: 1, seed: 0 },
  maxNewTokens: 1,
  truncatePromptTokens: null,
  stop: [],
  stopText: 'keep',
  eos: 'stop',
  topLogprobs: 0,
};

/** Whether the request is at fault, and not the model that ran it. */
function isTheRequests({ code }: Failure): boolean {
  return code === 'invalid_request' || code === 'context_exceeded' || code === 'unsupported_field';
}

function noLedger<Value>(): Metered<Value> {
  return { ok: false, failure: { code: 'ledger_missing' }, headers: HEADERS };
}

/** Of equal length whatever the key's, so that comparing takes equal time. */
function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
