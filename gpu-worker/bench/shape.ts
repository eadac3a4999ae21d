/** Shape: the sizes of a Llama that exists for measuring only, from --shape. */
import { type ModelConfig, parseModelConfig } from '../../core/model/config.ts';
import { usage } from '../command-line.ts';

export interface ModelShape {
  hidden: number;
  layers: number;
  ffn: number;
  heads: number;
  kvHeads: number;
  vocab: number;
}

const NAMES = ['hidden', 'layers', 'ffn', 'heads', 'kvHeads', 'vocab'] as const;

/** A 110-million-parameter Llama: small enough for any machine, too large for its caches. */
export const DEFAULT_SHAPE = '768,12,2048,12,12,32000';

/** Throws `usage` for what is not six whole numbers that make a Llama. */
export function parseShape(text: string): ModelShape {
  const numbers = text.split(',').map((part) => (/^\s*\d{1,9}\s*$/.test(part) ? Number(part) : 0));
  if (numbers.length !== NAMES.length || numbers.some((number) => number < 1))
    throw usage(`--shape is "${text}"; six whole numbers above 0 are needed: ${NAMES.join(',')}`);
  const shape = Object.fromEntries(NAMES.map((name, i) => [name, numbers[i]!])) as unknown as ModelShape;
  const { hidden, heads, kvHeads } = shape;
  if (hidden % heads !== 0) throw usage(`--shape: hidden ${hidden} is not a multiple of ${heads} heads`);
  if (heads % kvHeads !== 0) throw usage(`--shape: ${heads} heads are not a multiple of ${kvHeads} kvHeads`);
  if ((hidden / heads) % 2 !== 0)
    throw usage(`--shape: heads of ${hidden / heads} channels; rotation needs an even number`);
  return shape;
}

/** The model's config as its config.json would give it; `contextTokens` is what prompt and answer have together. */
export function configOf(shape: ModelShape, contextTokens: number): ModelConfig {
  const json = {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    hidden_size: shape.hidden,
    intermediate_size: shape.ffn,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    vocab_size: shape.vocab,
    max_position_embeddings: contextTokens,
    rms_norm_eps: 1e-5,
  };
  return parseModelConfig(json, null, '--shape');
}

/** A matrix of the model, as [out, in]. */
export interface MatrixShape {
  name: string;
  out: number;
  in: number;
}

/** The matrices of one layer. */
export function layerMatrices({ hidden, ffn, heads, kvHeads }: ModelShape): MatrixShape[] {
  const kvWidth = (hidden / heads) * kvHeads;
  return [
    { name: 'q', out: hidden, in: hidden },
    { name: 'k', out: kvWidth, in: hidden },
    { name: 'v', out: kvWidth, in: hidden },
    { name: 'o', out: hidden, in: hidden },
    { name: 'gate', out: ffn, in: hidden },
    { name: 'up', out: ffn, in: hidden },
    { name: 'down', out: hidden, in: ffn },
  ];
}

/** Weights of all matrices that a token's step multiplies with: layers and head. */
export function multipliedWeights(shape: ModelShape): number {
  const layer = layerMatrices(shape).reduce((sum, matrix) => sum + matrix.out * matrix.in, 0);
  return shape.layers * layer + shape.vocab * shape.hidden;
}
