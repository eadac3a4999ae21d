/** Metrics: what a standalone server did, under TGI's names. */
import type { Chunk } from '../../core/engine/scheduler.ts';
import type { Job } from '../../core/protocol.ts';
import { type Family, Histogram } from '../../edge/api/prometheus.ts';
import type { Usage } from '../../edge/api/service.ts';

/** TGI's buckets, in seconds. */
const SECONDS = Array.from({ length: 35 }, (_, k) => Number((0.0001 * 1.5 ** (k + 1)).toPrecision(6)));
/** Powers of two up to TGI's largest batch. */
const BATCH_SIZES = Array.from({ length: 11 }, (_, k) => 2 ** k);

type FailureKind = 'validation' | 'overloaded' | 'generation' | 'dropped' | 'unavailable';
/** A request that was wrong itself is counted by its answer's status. */
export type EndKind = 'succeeded' | 'invalid' | { failed: FailureKind };

interface Running {
  beganMs: number;
  /** When its first tokens were computed; null while it waits. */
  placedMs: number | null;
}

/** What a scrape asks for now. */
export interface Load {
  numWaiting: number;
  numRunning: number;
  cacheTokens: number;
}

export class Metrics {
  readonly #now: () => number;
  readonly #running = new Map<string, Running>();
  #requests = 0;
  #successes = 0;
  readonly #failures = new Map<FailureKind, number>();
  readonly #batches = { prefill: 0, decode: 0 };
  readonly #durations = {
    tgi_request_duration: new Histogram(SECONDS),
    tgi_request_queue_duration: new Histogram(SECONDS),
    tgi_request_inference_duration: new Histogram(SECONDS),
    tgi_request_mean_time_per_token_duration: new Histogram(SECONDS),
  };
  readonly #inputLength: Histogram;
  readonly #generatedTokens: Histogram;
  readonly #maxNewTokens: Histogram;
  readonly #batchSize = new Histogram(BATCH_SIZES);

  /** `now`: milliseconds of a clock that never goes back. */
  constructor(limits: { maxInputTokens: number; maxTotalTokens: number }, now: () => number) {
    this.#now = now;
    this.#inputLength = new Histogram(hundredths(limits.maxInputTokens));
    this.#generatedTokens = new Histogram(hundredths(limits.maxTotalTokens));
    this.#maxNewTokens = new Histogram(hundredths(limits.maxTotalTokens));
  }

  requested(): void {
    this.#requests += 1;
  }

  /** Not even queued. */
  refused(kind: FailureKind): void {
    this.#failed(kind);
  }

  /** Its body or a parameter is wrong. */
  invalid(): void {
    this.#failed('validation');
  }

  began(job: Job): void {
    this.#running.set(job.id, { beganMs: this.#now(), placedMs: null });
    if (job.maxNewTokens !== null) this.#maxNewTokens.observe(job.maxNewTokens);
  }

  batch(chunks: readonly Chunk[]): void {
    const prefills = chunks.filter(
      ({ sequence, count }) => sequence.ids.length - sequence.numCachedTokens > 1 || count > 1,
    );
    if (prefills.length > 0) this.#batches.prefill += 1;
    if (prefills.length < chunks.length) this.#batches.decode += 1;
    this.#batchSize.observe(chunks.length);
    for (const { sequence } of chunks) {
      const running = this.#running.get(sequence.job.id);
      if (running === undefined || running.placedMs !== null) continue;
      running.placedMs = this.#now();
      this.#durations.tgi_request_queue_duration.observe((running.placedMs - running.beganMs) / 1000);
    }
  }

  ended(jobId: string, end: EndKind, usage: Usage): void {
    const running = this.#running.get(jobId);
    if (running === undefined) return;
    this.#running.delete(jobId);
    if (end === 'invalid') return;
    if (end !== 'succeeded') {
      this.#failed(end.failed);
      return;
    }
    this.#successes += 1;
    const nowMs = this.#now();
    const inferenceS = (nowMs - (running.placedMs ?? nowMs)) / 1000;
    const durations = this.#durations;
    durations.tgi_request_duration.observe((nowMs - running.beganMs) / 1000);
    durations.tgi_request_inference_duration.observe(inferenceS);
    durations.tgi_request_mean_time_per_token_duration.observe(inferenceS / Math.max(1, usage.completionTokens));
    this.#inputLength.observe(usage.promptTokens);
    this.#generatedTokens.observe(usage.completionTokens);
  }

  families(load: Load): Family[] {
    const gauge = (name: string, help: string, value: number): Family => ({
      name,
      type: 'gauge',
      help,
      samples: [{ value }],
    });
    const counter = (name: string, help: string, value: number): Family => ({
      name,
      type: 'counter',
      help,
      samples: [{ value }],
    });
    const histogram = (name: string, help: string, values: Histogram): Family => ({
      name,
      type: 'histogram',
      help,
      samples: values.samples(),
    });
    return [
      counter('tgi_request_count', 'Requests', this.#requests),
      counter('tgi_request_success', 'Requests that were answered', this.#successes),
      {
        ...counter('tgi_request_failure', 'Requests that were not, by cause', 0),
        samples: [...this.#failures].map(([err, value]) => ({ labels: { err }, value })),
      },
      gauge('tgi_queue_size', 'Requests that wait for a place in the batch', load.numWaiting),
      gauge('tgi_batch_current_size', 'Requests in the batch', load.numRunning),
      gauge('tgi_batch_max_total_tokens', 'Tokens that the key/value cache holds', load.cacheTokens),
      {
        ...counter(
          'tgi_batch_inference_count',
          'Steps that computed prompts (prefill), and next tokens (decode); one may do both',
          0,
        ),
        samples: Object.entries(this.#batches).map(([method, value]) => ({ labels: { method }, value })),
      },
      histogram('tgi_batch_next_size', 'Requests in a step', this.#batchSize),
      histogram('tgi_request_duration', 'Seconds of a request', this.#durations.tgi_request_duration),
      histogram(
        'tgi_request_queue_duration',
        'Seconds until its first tokens are computed',
        this.#durations.tgi_request_queue_duration,
      ),
      histogram(
        'tgi_request_inference_duration',
        'Seconds from there to its end',
        this.#durations.tgi_request_inference_duration,
      ),
      histogram(
        'tgi_request_mean_time_per_token_duration',
        'Seconds of that for each token',
        this.#durations.tgi_request_mean_time_per_token_duration,
      ),
      histogram('tgi_request_input_length', 'Tokens of a prompt', this.#inputLength),
      histogram('tgi_request_generated_tokens', 'Tokens of an answer', this.#generatedTokens),
      histogram('tgi_request_max_new_tokens', 'Tokens asked for at most, where a request says so', this.#maxNewTokens),
    ];
  }

  #failed(kind: FailureKind): void {
    this.#failures.set(kind, (this.#failures.get(kind) ?? 0) + 1);
  }
}

/** TGI's buckets of lengths; fewer where a hundredth is less than a token. */
function hundredths(most: number): number[] {
  const steps = Math.min(100, most);
  return Array.from({ length: steps }, (_, k) => Math.ceil(((k + 1) * most) / steps));
}
