/** Weights: a model's matrices and vectors on a backend, in the shape that the graph runs. */
import type { Linear, Vector } from './backend.ts';

export interface EmbeddingWeights {
  embedding: Linear;
  /** Table of learned positions. */
  positions: Linear | null;
  /** From the embedding's width to hidden, and back before the head. */
  projection: { in: Linear; out: Linear } | null;
}

export interface ModelWeights extends EmbeddingWeights {
  layers: LayerWeights[];
  finalNorm: Norm | null;
  /** The embedding itself when the head is tied. */
  head: Linear;
}

export interface LayerWeights {
  norms: LayerNorms;
  queryKeyValue: QueryKeyValue;
  attentionOutput: Linear;
  mlp: Mlp;
}

export interface Norm {
  weight: Vector;
  /** LayerNorm's; rms norms have none. */
  bias: Vector | null;
}

export interface LayerNorms {
  attention: Norm;
  /** The same object as `attention` where one norm serves both. */
  mlp: Norm;
  /** Of the branches' outputs (sandwich). */
  outputs: { attention: Norm; mlp: Norm } | null;
  /** [headDim] */
  heads: { query: Norm; key: Norm } | null;
}

export interface ColumnRange {
  begin: number;
  count: number;
}

export type QueryKeyValue =
  | { kind: 'separate'; query: Linear; key: Linear; value: Linear }
  /** Columns of one linear's output. */
  | { kind: 'fused'; linear: Linear; query: ColumnRange[]; key: ColumnRange[]; value: ColumnRange[] };

export type Mlp =
  | { kind: 'gated'; gate: Linear; up: Linear; down: Linear }
  /** One linear gives [gate, up]. */
  | { kind: 'fused'; gateUp: Linear; down: Linear }
  | { kind: 'plain'; up: Linear; down: Linear };
