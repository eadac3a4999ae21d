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

/** Bytes of weights that one step reads, however many tokens it has: every matrix but the tables of which it looks up rows. */
export function stepWeightBytes({ projection, layers, head }: ModelWeights): number {
  const linears = layers.flatMap(({ queryKeyValue, attentionOutput, mlp }) => [
    ...(queryKeyValue.kind === 'separate'
      ? [queryKeyValue.query, queryKeyValue.key, queryKeyValue.value]
      : [queryKeyValue.linear]),
    attentionOutput,
    ...linearsOf(mlp),
  ]);
  const outer = projection === null ? [head] : [projection.in, projection.out, head];
  return [...linears, ...outer].reduce((bytes, linear) => bytes + linear.bytes, 0);
}

function linearsOf(mlp: Mlp): Linear[] {
  switch (mlp.kind) {
    case 'gated':
      return [mlp.gate, mlp.up, mlp.down];
    case 'fused':
      return [mlp.gateUp, mlp.down];
    case 'plain':
      return [mlp.up, mlp.down];
    default:
      return mlp satisfies never;
  }
}
