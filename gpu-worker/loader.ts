/** Loader: from a model's files to a graph on a backend, with its tokenizer and template. */
import { basename } from 'node:path';
import { describe, NibbleError } from '../core/errors.ts';
import { quantizationLabel } from '../core/formats/quantization.ts';
import type { HeadBits } from '../core/formats/requantize.ts';
import type { Backend } from '../core/model/backend.ts';
import { loadModelWeights } from '../core/model/checkpoint.ts';
import type { ModelConfig } from '../core/model/config.ts';
import { Graph } from '../core/model/graph.ts';
import { loadOrder } from '../core/model/load-order.ts';
import { modelCard, openModelOutline, openModelText } from '../core/model/model-files.ts';
import type { ModelCard } from '../core/protocol.ts';
import type { ChatTemplate } from '../core/text/chat-template.ts';
import type { Tokenizer } from '../core/text/tokenizer.ts';
import { backendChoice, openBackend } from './backends.ts';
import type { Options } from './command-line.ts';
import { progressBar } from './progress.ts';
import { releasing } from './released-weights.ts';
import { log } from './store/open-model.ts';
import type { PackedRecorder } from './store/packed-model.ts';
import { type CachedModel, openCachedModel } from './store/weights-cache.ts';

export interface LoadedModel {
  config: ModelConfig;
  graph: Graph;
  backend: Backend;
  tokenizer: Tokenizer;
  template: ChatTemplate | null;
  quantization: string | null;
  parameters: number;
  /** What the edge is told. `contextTokens`: what this worker can hold of the model's. */
  card(servedName: string, contextTokens: number): ModelCard;
  /** The name to serve it under when none is given. */
  baseName: string;
}

export interface LoadOptions {
  /** --quantize */
  quantize: string | null;
  headBits: HeadBits;
  /** Whether the command can do without tokenizer.json. */
  text: 'needed' | 'optional';
}

/** Loads --model-id on --backend as --quantize and --head-bits say; without --weights-cache where what lies there is damaged. */
export async function loadModel(options: Options, text: LoadOptions['text'] = 'needed'): Promise<LoadedModel> {
  const headBits = (options.number('head-bits') ?? 16) as HeadBits;
  const path = options.required('model-id');
  let fromCache = false;
  const load = (how: 'look-up' | 'pass-by') =>
    loadModelOn(
      path,
      async () => {
        const cached = await openCachedModel(options, how);
        ({ fromCache } = cached);
        return cached;
      },
      { quantize: options.text('quantize'), headBits, text },
      () => openBackend(backendChoice(options)),
    );
  try {
    return await load('look-up');
  } catch (error) {
    const isOfFiles = error instanceof NibbleError && /^file_/.test(error.failure.code);
    if (!fromCache || !isOfFiles) throw error;
    log(`the weights cache cannot be used: ${describe(error.failure)}; the model is loaded without it`);
    return load('pass-by');
  }
}

/** `path` names the model in errors. The backend is opened once its files were found good, and closed again when loading fails. */
export async function loadModelOn(
  path: string,
  openFiles: () => Promise<CachedModel>,
  { quantize, headBits, text }: LoadOptions,
  openBackend: () => Promise<Backend>,
): Promise<LoadedModel> {
  const cached = await openFiles();
  const { files } = cached;
  try {
    if (files.lone !== undefined)
      throw new NibbleError({
        code: 'file_missing',
        file: path,
        reason: 'is one file; a directory with config.json and tokenizer.json is needed to run a model',
      });
    const outline = await openModelOutline(files, quantize);
    const { config, checkpoint, quantization, parameters } = outline;
    const reading = await openModelText(files, config.contextTokens, text === 'needed' ? 'required' : 'optional');
    const method = quantization.kind === 'bitsandbytes' ? quantization.method : null;
    const backend = await openBackend();
    const loading = async () => {
      const recorder = method === null ? null : await cached.record(checkpoint, method);
      checkpoint.expect?.(loadOrder(checkpoint.tensors.keys(), config));
      // The reference computes with the checkpoint's own arrays.
      const loads = backend.name === 'reference' ? backend : releasing(backend);
      const weights = await loadModelWeights(checkpoint, {
        config,
        quantization,
        backend: recorder === null ? loads : recorded(loads, recorder),
        headBits,
        onTensor: progressBar('Loading'),
      });
      await cached.fill();
      return weights;
    };
    const weights = await loading().catch(async (error) => {
      await backend.dispose();
      throw error;
    });
    return {
      config,
      graph: new Graph(config, weights, backend),
      backend,
      tokenizer: reading.tokenizer,
      template: reading.template,
      quantization: quantizationLabel(quantization),
      parameters,
      baseName: basename(files.baseName),
      card: (servedName, contextTokens) => modelCard(servedName, outline, reading, contextTokens),
    };
  } finally {
    await cached.close();
  }
}

/** The backend, with every linear shown to the recorder on its way. */
function recorded(
  backend: Pick<Backend, 'loadLinear' | 'loadVector' | 'join'>,
  recorder: PackedRecorder,
): Pick<Backend, 'loadLinear' | 'loadVector' | 'join'> {
  return {
    async loadLinear(weight, label) {
      await recorder.record(label, weight);
      return backend.loadLinear(weight, label);
    },
    join: async (weights) => backend.join?.(weights),
    loadVector: (values, label) => backend.loadVector(values, label),
  };
}
