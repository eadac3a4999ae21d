/** Architecture: what distinguishes one decoder from another, as a value. The graph runs any of them; a family's file makes one from config.json. */
import type { ActivationFunction } from './backend.ts';
import type { RopeOptions } from './rope.ts';

export interface Architecture {
  /** Its name in config.json's `architectures`. */
  architecture: string;
  hidden: number;
  /** Width of an embedding's row. Where it is not `hidden`, linears lead in and out. */
  embeddingWidth: number;
  intermediate: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocabSize: number;
  /** Tokens that prompt and answer may have together. */
  contextTokens: number;

  norm: NormOptions;
  placement: NormPlacement;
  /** rmsNorm of each head of queries and keys before they rotate. */
  queryKeyNorm: 'none' | 'per-head';
  activation: ActivationFunction;
  /** Which linears have one. */
  bias: { queryKeyValue: boolean; attentionOutput: boolean; mlp: boolean };

  embeddingScale: number;
  /** A learned vector by position, added to the embedding; position p is row p + offset of `entries`. */
  learnedPositions: { entries: number; offset: number } | null;
  /** Factor on q·k. */
  attentionScale: number;
  attentionSoftcap: number | null;
  /** [heads], as AttentionOptions has them. */
  alibiSlopes: Float32Array | null;
  /** [layers] */
  layerAttention: readonly LayerAttention[];
  /** Logits become softcap · tanh(logit / softcap). */
  logitSoftcap: number | null;
  /** The embedding is the head too. */
  tiedHead: boolean;
  tensors: TensorNames;
}

export interface LayerAttention {
  /** Positions seen, the token's own included; null: all. */
  window: number | null;
  /** null: nothing rotates. Layers with the same value share one table. */
  rope: RopeOptions | null;
}

/** `weightOffset` is added to every weight of a checkpoint's rms norms: Gemma stores weight − 1. */
export type NormOptions = { kind: 'rms'; eps: number; weightOffset: 0 | 1 } | { kind: 'layer'; eps: number };

/**
 * Where a layer's norms stand, with f attention, then the mlp:
 * pre: x += f(norm(x)). sandwich: x += norm'(f(norm(x))). post: x = norm(x + f(x)). parallel: x += attention(norm(x)) + mlp(norm'(x)).
 */
export type NormPlacement = 'pre' | 'sandwich' | 'post' | 'parallel';

/** Tensor names without `.weight`. Those of a layer follow `layers` + its index + '.'. */
export interface TensorNames {
  embedding: string;
  /** Read when there are learned positions. */
  positions: string | null;
  /** Read when embeddingWidth is not hidden. */
  projection: { in: string; out: string } | null;
  layers: string;
  norms: LayerNormNames;
  queryKeyValue: QueryKeyValueNames;
  attentionOutput: string;
  mlp: MlpNames;
  /** null: there is none. */
  finalNorm: string | null;
  /** Read when the head is not tied. */
  head: string;
}

export interface LayerNormNames {
  attention: string;
  /** null: the attention's norm serves the mlp too. */
  mlp: string | null;
  /** For placement "sandwich". */
  outputs: { attention: string; mlp: string } | null;
  /** For queryKeyNorm. */
  heads: { query: string; key: string } | null;
}

export type QueryKeyValueNames =
  | { kind: 'separate'; query: string; key: string; value: string }
  /** blocks: every query head, then every key head, then every value head. groups: for each kv head its query heads, its key, its value. */
  | { kind: 'fused'; name: string; layout: 'blocks' | 'groups' };

export type MlpNames =
  /** down(f(gate(x)) · up(x)) */
  | { kind: 'gated'; gate: string; up: string; down: string }
  /** The same; one linear gives the gate's outputs, then up's. */
  | { kind: 'fused'; gateUp: string; down: string }
  /** down(f(up(x))) */
  | { kind: 'plain'; up: string; down: string };
