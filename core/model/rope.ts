/**
 * Rope: rotary angles by position, computed on the host in f64 so that every backend rotates by the same f32 numbers.
 *
 * Dynamic NTK and longrope choose their frequencies by length. Here the length is what the sequence is planned to have
 * (Batch.plannedTokens: prompt and longest answer, or the context where no limit is given; the window when text is scored), so that one
 * choice holds for a whole sequence and a token's logits depend neither on its batch nor on how far the answer has come. transformers
 * chooses by the length so far, of the longest sequence in the batch: while an answer grows past the limit it goes on with keys that
 * were rotated by the old frequencies (dynamic) or computes them all anew (longrope in Phi-3). For a prompt that is scored at once
 * both are the same.
 */

/** How one kind of layer rotates. */
export interface RopeOptions {
  /** Leading channels of a head that rotate; even. */
  rotaryDim: number;
  theta: number;
  scaling: RopeScaling;
}

/** transformers' modeling_rope_utils.py gives the formulas; the originals are cited at each function below. */
export type RopeScaling =
  | { kind: 'none' }
  | { kind: 'linear'; factor: number }
  | { kind: 'dynamic'; factor: number; originalTokens: number }
  | { kind: 'llama3'; factor: number; lowFrequency: number; highFrequency: number; originalTokens: number }
  | YarnScaling
  | LongropeScaling;

export interface YarnScaling {
  kind: 'yarn';
  factor: number;
  originalTokens: number;
  /** Turns within originalTokens above which a channel is left alone, and below which it is slowed by the whole factor. */
  betaFast: number;
  betaSlow: number;
  /** Whether the channels between are counted in whole ones. */
  truncate: boolean;
  attentionFactor: number;
}

export interface LongropeScaling {
  kind: 'longrope';
  /** [rotaryDim/2] */
  shortFactors: readonly number[];
  longFactors: readonly number[];
  originalTokens: number;
  attentionFactor: number;
}

/** Angles as cos and sin tables of a batch, each [tokens, rotaryDim/2] f32. */
export interface RopeTables {
  cos: Float32Array;
  sin: Float32Array;
}

/** `batch`: positions [tokens], sequenceOf [tokens], plannedTokens [sequences]. */
export function ropeTables(
  options: RopeOptions,
  batch: { positions: Int32Array; sequenceOf: Int32Array; plannedTokens: Int32Array },
): RopeTables {
  const { positions, sequenceOf, plannedTokens } = batch;
  const half = options.rotaryDim / 2;
  const factor = attentionFactorOf(options.scaling);
  const lengths = plannedTokens.map((tokens) => decisiveLength(options.scaling, tokens));
  const frequencies = new Map([...new Set(lengths)].map((length) => [length, frequenciesOf(options, length)]));
  const cos = new Float32Array(positions.length * half);
  const sin = new Float32Array(positions.length * half);
  for (let token = 0; token < positions.length; token++) {
    const own = frequencies.get(lengths[sequenceOf[token]!]!)!;
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(positions[token]! * own[i]!);
      cos[token * half + i] = Math.cos(angle) * factor;
      sin[token * half + i] = Math.sin(angle) * factor;
    }
  }
  return { cos, sin };
}

/** What rotated queries and keys are multiplied by. */
function attentionFactorOf(scaling: RopeScaling): number {
  return scaling.kind === 'yarn' || scaling.kind === 'longrope' ? scaling.attentionFactor : 1;
}

/** The same for all lengths of the same frequencies. */
function decisiveLength(scaling: RopeScaling, plannedTokens: number): number {
  switch (scaling.kind) {
    case 'dynamic':
      return Math.max(plannedTokens, scaling.originalTokens);
    case 'longrope':
      return Math.min(plannedTokens, scaling.originalTokens + 1);
    default:
      return 0;
  }
}

/** [rotaryDim/2] radians a position, rounded to f32 as transformers does. */
function frequenciesOf({ rotaryDim, theta, scaling }: RopeOptions, plannedTokens: number): Float32Array {
  const plain = (base: number) =>
    Float64Array.from({ length: rotaryDim / 2 }, (_, i) => base ** ((-2 * i) / rotaryDim));
  switch (scaling.kind) {
    case 'none':
      return Float32Array.from(plain(theta));
    case 'linear':
      return Float32Array.from(plain(theta), (frequency) => frequency / scaling.factor);
    case 'dynamic': {
      // NTK-aware, by length (u/bloc97, u/emozilla): a larger base, so that the slowest channel turns as far as it was trained to.
      const stretch = scaling.factor * Math.max(1, plannedTokens / scaling.originalTokens) - (scaling.factor - 1);
      return Float32Array.from(plain(theta * stretch ** (rotaryDim / (rotaryDim - 2))));
    }
    case 'llama3':
      return Float32Array.from(plain(theta), (frequency) => slowed(frequency, scaling));
    case 'yarn':
      return yarnFrequencies(plain(theta), theta, scaling);
    case 'longrope': {
      const factors = plannedTokens > scaling.originalTokens ? scaling.longFactors : scaling.shortFactors;
      return Float32Array.from(plain(theta), (frequency, i) => frequency / factors[i]!);
    }
    default:
      return scaling satisfies never;
  }
}

/** Llama 3.1 (meta-llama/llama-models, apply_scaling): slow channels are divided by the factor, fast ones left, those between blended. */
function slowed(frequency: number, scaling: Extract<RopeScaling, { kind: 'llama3' }>): number {
  const { factor, lowFrequency, highFrequency, originalTokens } = scaling;
  const turns = (originalTokens * frequency) / (2 * Math.PI);
  if (turns < lowFrequency) return frequency / factor;
  if (turns > highFrequency) return frequency;
  const smooth = (turns - lowFrequency) / (highFrequency - lowFrequency);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}

/** YaRN (Peng et al., 2309.00071, section 3.2): a ramp over the channels between interpolation and extrapolation. */
function yarnFrequencies(plain: Float64Array, theta: number, scaling: YarnScaling): Float32Array {
  const { factor, originalTokens, betaFast, betaSlow, truncate } = scaling;
  const rotaryDim = plain.length * 2;
  /** The channel that makes this many turns within originalTokens. */
  const channel = (turns: number) =>
    (rotaryDim * Math.log(originalTokens / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [fast, slow] = [channel(betaFast), channel(betaSlow)];
  const low = Math.max(truncate ? Math.floor(fast) : fast, 0);
  const high = Math.min(truncate ? Math.ceil(slow) : slow, rotaryDim - 1);
  const width = high === low ? 0.001 : high - low;
  return Float32Array.from(plain, (frequency, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / width));
    return (frequency / factor) * ramp + frequency * (1 - ramp);
  });
}
