/** Checkpoint: from a Hugging Face checkpoint's tensors to weights on a backend, tensor by tensor. */
import type { CheckpointFiles } from '../formats/checkpoint-index.ts';
import { readTable } from '../formats/plain.ts';
import { type Quantization, readLinearWeight } from '../formats/quantization.ts';
import type { HeadBits } from '../formats/requantize.ts';
import { TensorReader } from '../formats/tensor-reader.ts';
import type { Architecture } from './architecture.ts';
import type { Backend, Linear } from './backend.ts';
import type {
  ColumnRange,
  EmbeddingWeights,
  LayerNorms,
  LayerWeights,
  Mlp,
  ModelWeights,
  Norm,
  QueryKeyValue,
} from './weights.ts';

export interface LoadOptions {
  config: Architecture;
  quantization: Quantization;
  backend: Pick<Backend, 'loadLinear' | 'loadVector' | 'join'>;
  /** What embedding and head are requantized to; absent or 16: they stay as they are. */
  headBits?: HeadBits;
  /** Called after each linear and norm with how many of `total` are on the backend. */
  onTensor?: (done: number, total: number) => void;
}

/** Loads every weight the graph needs. Tensors of the checkpoint that it does not need are left alone. */
export async function loadModelWeights(checkpoint: CheckpointFiles, options: LoadOptions): Promise<ModelWeights> {
  const { config } = options;
  const { vocabSize, hidden, embeddingWidth, tensors } = config;
  const loader = new WeightLoader(checkpoint, options);
  const { headBits = 16 } = options;
  // The largest come first: beside them and before the rest there is room for both of their forms.
  const embedding = await loader.embedding();
  const head = config.tiedHead
    ? embedding.embedding
    : await loader.table(tensors.head, vocabSize, embeddingWidth, headBits);
  const layers: LayerWeights[] = [];
  for (let index = 0; index < config.layers; index++) layers.push(await loader.layer(`${tensors.layers}${index}.`));
  const finalNorm = tensors.finalNorm === null ? null : await loader.norm(tensors.finalNorm, hidden);
  return { ...embedding, layers, finalNorm, head };
}

/** What leads into the first layer, without the rest. */
export function loadEmbedding(checkpoint: CheckpointFiles, options: LoadOptions): Promise<EmbeddingWeights> {
  return new WeightLoader(checkpoint, options).embedding();
}

/** One layer's weights, without the rest. */
export function loadLayer(checkpoint: CheckpointFiles, index: number, options: LoadOptions): Promise<LayerWeights> {
  return new WeightLoader(checkpoint, options).layer(`${options.config.tensors.layers}${index}.`);
}

class WeightLoader {
  readonly #checkpoint: CheckpointFiles;
  readonly #options: LoadOptions;
  readonly #total: number;
  #done = 0;

  constructor(checkpoint: CheckpointFiles, options: LoadOptions) {
    this.#checkpoint = checkpoint;
    this.#options = options;
    this.#total = countOf(options.config);
  }

  async embedding(): Promise<EmbeddingWeights> {
    const { headBits = 16 } = this.#options;
    const { vocabSize, hidden, embeddingWidth, learnedPositions, tensors } = this.#options.config;
    const { projection } = tensors;
    return {
      embedding: await this.table(tensors.embedding, vocabSize, embeddingWidth, headBits),
      positions:
        learnedPositions === null ? null : await this.table(tensors.positions!, learnedPositions.entries, hidden),
      projection:
        embeddingWidth === hidden
          ? null
          : {
              in: await this.table(projection!.in, hidden, embeddingWidth),
              out: await this.table(projection!.out, embeddingWidth, hidden),
            },
    };
  }

  /** A matrix that is plain in the checkpoint whatever the quantization: embeddings and the head. */
  async table(name: string, rows: number, cols: number, bits: HeadBits = 16): Promise<Linear> {
    const weight = await readTable(this.#checkpoint, name, { outFeatures: rows, inFeatures: cols }, bits);
    return this.#counted(await this.#options.backend.loadLinear(weight, name));
  }

  async norm(name: string, length: number): Promise<Norm> {
    const { config, backend } = this.#options;
    const tensors = new TensorReader(this.#checkpoint, name, 'config.json asks');
    const weight = await tensors.float('weight', [length]);
    if (config.norm.kind === 'layer') {
      const bias = backend.loadVector(await tensors.float('bias', [length]), `${name}.bias`);
      return this.#counted({ weight: backend.loadVector(weight, name), bias });
    }
    const { weightOffset } = config.norm;
    return this.#counted({
      weight: backend.loadVector(
        weight.map((value) => value + weightOffset),
        name,
      ),
      bias: null,
    });
  }

  async layer(prefix: string): Promise<LayerWeights> {
    const { hidden, heads, headDim, bias, tensors } = this.#options.config;
    return {
      norms: await this.#norms(prefix),
      queryKeyValue: await this.#queryKeyValue(prefix),
      attentionOutput: await this.#linear(
        prefix + tensors.attentionOutput,
        hidden,
        heads * headDim,
        bias.attentionOutput,
      ),
      mlp: await this.#mlp(prefix),
    };
  }

  async #norms(prefix: string): Promise<LayerNorms> {
    const { hidden, headDim, placement, queryKeyNorm, tensors } = this.#options.config;
    const { norms } = tensors;
    const attention = await this.norm(prefix + norms.attention, hidden);
    return {
      attention,
      mlp: norms.mlp === null ? attention : await this.norm(prefix + norms.mlp, hidden),
      outputs:
        placement !== 'sandwich'
          ? null
          : {
              attention: await this.norm(prefix + norms.outputs!.attention, hidden),
              mlp: await this.norm(prefix + norms.outputs!.mlp, hidden),
            },
      heads:
        queryKeyNorm === 'none'
          ? null
          : {
              query: await this.norm(prefix + norms.heads!.query, headDim),
              key: await this.norm(prefix + norms.heads!.key, headDim),
            },
    };
  }

  async #queryKeyValue(prefix: string): Promise<QueryKeyValue> {
    const { hidden, heads, kvHeads, headDim, bias, tensors } = this.#options.config;
    const names = tensors.queryKeyValue;
    const linear = (name: string, outputs: number) =>
      this.#linear(prefix + name, outputs * headDim, hidden, bias.queryKeyValue);
    if (names.kind === 'separate') {
      const query = await linear(names.query, heads);
      const key = await linear(names.key, kvHeads);
      const value = await linear(names.value, kvHeads);
      await this.#options.backend.join?.([query, key, value]);
      return { kind: 'separate', query, key, value };
    }
    const fused = await linear(names.name, heads + 2 * kvHeads);
    return { kind: 'fused', linear: fused, ...fusedColumns(this.#options.config, names.layout) };
  }

  async #mlp(prefix: string): Promise<Mlp> {
    const { hidden, intermediate, bias, tensors } = this.#options.config;
    const names = tensors.mlp;
    const inner = (name: string, outputs: number) => this.#linear(prefix + name, outputs, hidden, bias.mlp);
    const down = (name: string) => this.#linear(prefix + name, hidden, intermediate, bias.mlp);
    switch (names.kind) {
      case 'gated': {
        const gate = await inner(names.gate, intermediate);
        const up = await inner(names.up, intermediate);
        await this.#options.backend.join?.([gate, up]);
        return { kind: 'gated', gate, up, down: await down(names.down) };
      }
      case 'fused':
        return { kind: 'fused', gateUp: await inner(names.gateUp, 2 * intermediate), down: await down(names.down) };
      case 'plain':
        return { kind: 'plain', up: await inner(names.up, intermediate), down: await down(names.down) };
      default:
        return names satisfies never;
    }
  }

  async #linear(name: string, outFeatures: number, inFeatures: number, hasBias: boolean): Promise<Linear> {
    const bias = hasBias ? 'required' : 'none';
    const shape = { outFeatures, inFeatures, bias } as const;
    const weight = await readLinearWeight(this.#checkpoint, name, this.#options.quantization, shape);
    return this.#counted(await this.#options.backend.loadLinear(weight, name));
  }

  #counted<Loaded>(loaded: Loaded): Loaded {
    this.#options.onTensor?.(++this.#done, this.#total);
    return loaded;
  }
}

/** Where queries, keys and values lie among a fused linear's outputs. */
function fusedColumns(
  { heads, kvHeads, headDim }: Architecture,
  layout: 'blocks' | 'groups',
): { query: ColumnRange[]; key: ColumnRange[]; value: ColumnRange[] } {
  const columns = (firstHead: number, count: number) => ({ begin: firstHead * headDim, count: count * headDim });
  if (layout === 'blocks')
    return {
      query: [columns(0, heads)],
      key: [columns(heads, kvHeads)],
      value: [columns(heads + kvHeads, kvHeads)],
    };
  const queries = heads / kvHeads;
  const group = (first: number, count: number) =>
    Array.from({ length: kvHeads }, (_, kvHead) => columns(kvHead * (queries + 2) + first, count));
  return { query: group(0, queries), key: group(queries, 1), value: group(queries + 1, 1) };
}

/** Linears and norms of the whole model. */
function countOf({ layers, placement, queryKeyNorm, tensors, ...config }: Architecture): number {
  const norms = 1 + (tensors.norms.mlp === null ? 0 : 1);
  const branchNorms = (placement === 'sandwich' ? 2 : 0) + (queryKeyNorm === 'none' ? 0 : 2);
  const attention = tensors.queryKeyValue.kind === 'separate' ? 4 : 2;
  const mlp = tensors.mlp.kind === 'gated' ? 3 : 2;
  const tables = 1 + (config.learnedPositions === null ? 0 : 1) + (config.embeddingWidth === config.hidden ? 0 : 2);
  const ends = (tensors.finalNorm === null ? 0 : 1) + (config.tiedHead ? 0 : 1);
  return tables + layers * (norms + branchNorms + attention + mlp) + ends;
}
