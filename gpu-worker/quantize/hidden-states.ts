/** HiddenStates: every calibration sequence's hidden states, in one block that threads share. */

export class HiddenStates {
  /** [all tokens, hidden] f32 */
  readonly values: Float32Array;
  readonly hidden: number;
  /** Tokens of each sequence. */
  readonly lengths: readonly number[];
  readonly #starts: readonly number[];

  constructor(lengths: readonly number[], hidden: number) {
    this.lengths = lengths;
    this.hidden = hidden;
    let total = 0;
    this.#starts = lengths.map((length) => {
      total += length;
      return total - length;
    });
    this.values = new Float32Array(new SharedArrayBuffer(total * hidden * 4));
  }

  get maxTokens(): number {
    return Math.max(...this.lengths);
  }

  /** A view of one sequence's. */
  of(sequence: number): Float32Array {
    const [start, length] = [this.#starts[sequence]! * this.hidden, this.lengths[sequence]! * this.hidden];
    return this.values.subarray(start, start + length);
  }
}
