/**
 * Step choice: whether a team's threads share a step or its caller does it alone, by what steps of the same size took lately. A second thread that has
 * no processor of its own (a virtual machine may take it away from one second to the next, other processes too) can double a step's time, and seen
 * from inside both threads are merely slow. So the other way is tried now and then, less and less often while it stays the worse one.
 */

import { median } from './median.ts';

export type StepWay = 'alone' | 'together';

/** The times that count, of each way. */
const SAMPLES = 5;
/** Steps of a trial: enough for the median of the times that count. */
const TRIAL_STEPS = 3;
/** The other way is tried after so many steps, and after twice as many each time, up to the most. */
const FIRST_GAP = 16;
const MOST_GAP = 256;
/** The part of the time alone that steps together may take: below it they take processors for nothing. */
const LEAST_SAVING = 0.95;

interface StepKind {
  preferred: StepWay;
  steps: number;
  gap: number;
  /** The step with which the next trial begins. */
  nextTrial: number;
  /** Milliseconds a token. */
  times: Record<StepWay, number[]>;
}

export class StepChoice {
  readonly #kinds = new Map<number, StepKind>();

  /** For a step of so many tokens. */
  choose(tokens: number): StepWay {
    const kind = this.#kindOf(tokens);
    const ofTrial = kind.steps++ - kind.nextTrial;
    if (ofTrial < 0) return kind.preferred;
    if (ofTrial + 1 === TRIAL_STEPS) {
      kind.gap = Math.min(kind.gap * 2, MOST_GAP);
      kind.nextTrial = kind.steps + kind.gap;
    }
    return kind.preferred === 'alone' ? 'together' : 'alone';
  }

  record(tokens: number, way: StepWay, ms: number): void {
    const kind = this.#kindOf(tokens);
    const own = kind.times[way];
    own.push(ms / tokens);
    if (own.length > SAMPLES) own.shift();
    const { alone, together } = kind.times;
    if (alone.length === 0 || together.length === 0) return;
    const preferred = median(together) > LEAST_SAVING * median(alone) ? 'alone' : 'together';
    if (preferred === kind.preferred) return;
    kind.preferred = preferred;
    kind.gap = FIRST_GAP;
    kind.nextTrial = kind.steps + FIRST_GAP;
  }

  /** Steps whose numbers of tokens have the same number of bits. */
  #kindOf(tokens: number): StepKind {
    const bits = 32 - Math.clz32(tokens);
    let kind = this.#kinds.get(bits);
    if (kind === undefined) {
      const times = { alone: [], together: [] };
      kind = { preferred: 'together', steps: 0, gap: FIRST_GAP, nextTrial: FIRST_GAP, times };
      this.#kinds.set(bits, kind);
    }
    return kind;
  }
}
