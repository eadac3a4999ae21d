/** RandomModel: a Llama that was never trained, made on the backend one matrix at a time; the host holds no more than one. */
import type { Backend, Linear } from '../../core/model/backend.ts';
import { Graph } from '../../core/model/graph.ts';
import type { LayerWeights, Norm } from '../../core/model/weights.ts';
import { RandomWords } from './random-words.ts';
import { configOf, layerMatrices, type MatrixShape, type ModelShape } from './shape.ts';
import { randomWeight, type WeightFormat } from './weight-format.ts';

export interface RandomModelOptions {
  shape: ModelShape;
  format: WeightFormat;
  head: WeightFormat;
  /** One matrix for embedding and head. Otherwise the embedding is f16, of which a token reads one row. */
  tied: boolean;
  contextTokens: number;
  seed: number;
  /** Called after each matrix with how many of `total` are on the backend. */
  onMatrix?: (done: number, total: number) => void;
}

/** The same weights for a seed on every backend. */
export async function makeRandomModel(backend: Backend, options: RandomModelOptions): Promise<Graph> {
  const { shape, format, head: headFormat, tied, contextTokens, seed, onMatrix } = options;
  const { hidden, layers: count, vocab } = shape;
  const random = new RandomWords(seed);
  const total = count * 7 + (tied ? 1 : 2);
  let done = 0;
  const load = async (matrix: MatrixShape, as: WeightFormat): Promise<Linear> => {
    const linear = await backend.loadLinear(randomWeight(as, matrix, random), matrix.name);
    onMatrix?.(++done, total);
    return linear;
  };
  const norm = (): Norm => ({ weight: backend.loadVector(random.uniform(hidden, 0.9, 1.1), 'norm'), bias: null });

  const head = await load({ name: 'head', out: vocab, in: hidden }, headFormat);
  const embedding = tied
    ? head
    : await load({ name: 'embedding', out: vocab, in: hidden }, { kind: 'dense', dtype: 'f16' });
  const layers: LayerWeights[] = [];
  for (let index = 0; index < count; index++) {
    const linears = new Map<string, Linear>();
    for (const matrix of layerMatrices(shape))
      linears.set(matrix.name, await load({ ...matrix, name: `layers.${index}.${matrix.name}` }, format));
    // The map's keys are layerMatrices' names.
    const linear = (name: string) => linears.get(name)!;
    await backend.join?.([linear('q'), linear('k'), linear('v')]);
    await backend.join?.([linear('gate'), linear('up')]);
    layers.push({
      norms: { attention: norm(), mlp: norm(), outputs: null, heads: null },
      queryKeyValue: { kind: 'separate', query: linear('q'), key: linear('k'), value: linear('v') },
      attentionOutput: linear('o'),
      mlp: { kind: 'gated', gate: linear('gate'), up: linear('up'), down: linear('down') },
    });
  }
  const weights = { embedding, positions: null, projection: null, layers, finalNorm: norm(), head };
  return new Graph(configOf(shape, contextTokens), weights, backend);
}
