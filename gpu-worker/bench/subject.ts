/** Subject: the model that a bench measures, loaded or made up, with what tells it apart. */
import type { KvDtype } from '../../core/model/backend.ts';
import type { Graph } from '../../core/model/graph.ts';
import { backendChoice, openBackend } from '../backends.ts';
import { type Options, usage } from '../command-line.ts';
import { loadModel } from '../loader.ts';
import { kvDtypeOf } from '../model-flags.ts';
import { progressBar } from '../progress.ts';
import { makeRandomModel } from './random-model.ts';
import { DEFAULT_SHAPE, type ModelShape, parseShape } from './shape.ts';
import { formatLabel, headFormatOf, WEIGHT_FLAGS, weightFormatOf } from './weight-format.ts';

export interface Subject {
  graph: Graph;
  shape: ModelShape;
  settings: Record<string, string | number | boolean>;
  kvDtype: KvDtype;
}

export const SEED = 1;

/** --model-id, or random weights of --shape. `contextTokens` is what a sequence has at most; a model with less throws `usage`. */
export async function openSubject(options: Options, contextTokens: number): Promise<Subject> {
  const modelId = options.text('model-id');
  return modelId === null ? madeUp(options, contextTokens) : loaded(options, modelId, contextTokens);
}

async function loaded(options: Options, modelId: string, contextTokens: number): Promise<Subject> {
  for (const flag of ['shape', 'tied', ...Object.keys(WEIGHT_FLAGS)])
    if (options.has(flag)) throw usage(`--${flag} is for random weights; --model-id has its own`);
  const { graph, quantization } = await loadModel(options, 'optional');
  const { hidden, layers, intermediate: ffn, heads, kvHeads, vocabSize: vocab, contextTokens: limit } = graph.config;
  if (contextTokens > limit) throw usage(`${contextTokens} tokens a sequence are asked for; the model has ${limit}`);
  const kvDtype = kvDtypeOf(options) ?? graph.backend.defaultKvDtype;
  const settings = { model: modelId, weights: quantization ?? 'plain', 'keys and values': kvDtype };
  return { graph, shape: { hidden, layers, ffn, heads, kvHeads, vocab }, settings, kvDtype };
}

async function madeUp(options: Options, contextTokens: number): Promise<Subject> {
  const text = options.text('shape') ?? DEFAULT_SHAPE;
  const shape = parseShape(text);
  const [format, head] = [weightFormatOf(options), headFormatOf(options)];
  const tied = options.on('tied');
  const backend = await openBackend(backendChoice(options));
  const onMatrix = progressBar('Making weights');
  const graph = await makeRandomModel(backend, { shape, format, head, tied, contextTokens, seed: SEED, onMatrix });
  const kvDtype = kvDtypeOf(options) ?? backend.defaultKvDtype;
  const settings = {
    shape: text,
    weights: formatLabel(format),
    head: formatLabel(head) + (tied ? ', tied' : ''),
    'keys and values': kvDtype,
  };
  return { graph, shape, settings, kvDtype };
}
