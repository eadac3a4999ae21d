/** RowSampler: tokens from a step's logits, which stay on the backend: a row's likeliest decide, and only a row that they cannot decide is read. */
import type { Activation, Backend, TopLogits } from '../model/backend.ts';
import { allCandidates, type Candidates, candidatesFor, type Sampled, type Sampling, sample } from './sampler.ts';

/** One row's wish. `position`: the place of the new token in its sequence. */
export interface RowRequest {
  sampling: Sampling;
  topLogprobs: number;
  position: number;
}

export class RowSampler {
  readonly #backend: Backend;
  readonly #logits: Activation;
  readonly #requests: readonly RowRequest[];
  readonly #top: TopLogits;
  #all: Float32Array | null = null;

  /** logits [requests.length, vocab], in the order of `requests`. */
  static async over(backend: Backend, logits: Activation, requests: readonly RowRequest[]): Promise<RowSampler> {
    const counts = requests.map(({ sampling, topLogprobs }) => candidatesFor(sampling, topLogprobs));
    const temperatures = Float32Array.from(requests, ({ sampling }) => sampling.temperature);
    return new RowSampler(backend, logits, requests, await backend.top(logits, Math.max(...counts), temperatures));
  }

  private constructor(backend: Backend, logits: Activation, requests: readonly RowRequest[], top: TopLogits) {
    this.#backend = backend;
    this.#logits = logits;
    this.#requests = requests;
    this.#top = top;
  }

  /** Throws `generation_failed` on a row that is no distribution. */
  async sample(row: number): Promise<Sampled> {
    const { sampling, position, topLogprobs } = this.#requests[row]!;
    const decided = sample(this.#candidates(row), sampling, position, topLogprobs);
    if (decided !== null) return decided;
    const { cols } = this.#logits;
    this.#all ??= await this.#backend.read(this.#logits);
    const all = allCandidates(this.#all.subarray(row * cols, (row + 1) * cols), sampling);
    // Of a whole row something is always drawn.
    return sample(all, sampling, position, topLogprobs)!;
  }

  #candidates(row: number): Candidates {
    const { count, ids, logits, logTotals, scaledLogTotals } = this.#top;
    return {
      ids: ids.subarray(row * count, (row + 1) * count),
      logits: logits.subarray(row * count, (row + 1) * count),
      logTotal: logTotals[row]!,
      scaledLogTotal: scaledLogTotals[row]!,
      extent: count === this.#logits.cols ? 'all' : 'some',
    };
  }
}
