/** Loader: from a model's files to a graph on a backend, with its tokenizer and template. */
import { basename } from 'node:path';
import { failureOf, NibbleError } from '../core/errors.ts';
import { openCheckpoint } from '../core/formats/checkpoint-index.ts';
import { readJson, readText } from '../core/formats/file-set.ts';
import { quantizationLabel, readQuantization } from '../core/formats/quantization.ts';
import { MAX_CONFIG_BYTES } from '../core/formats/quantization-config.ts';
import { countParameters } from '../core/formats/quantized-modules.ts';
import type { Backend } from '../core/model/backend.ts';
import { loadModelWeights } from '../core/model/checkpoint.ts';
import { type ModelConfig, parseModelConfig } from '../core/model/config.ts';
import { Graph } from '../core/model/graph.ts';
import { loadOrder } from '../core/model/load-order.ts';
import type { ModelCard } from '../core/protocol.ts';
import { type ChatTemplate, chatTemplateOf } from '../core/text/chat-template.ts';
import { maxTokensPerByte } from '../core/text/token-bound.ts';
import { Tokenizer } from '../core/text/tokenizer.ts';
import { openBackend } from './backends.ts';
import type { Options } from './command-line.ts';
import { progressBar } from './progress.ts';
import type { PackedRecorder } from './store/packed-model.ts';
import { openCachedModel } from './store/weights-cache.ts';

/** A tokenizer of 256k tokens with merges has 33 MB. */
const MAX_TOKENIZER_BYTES = 100_000_000;

export interface LoadedModel {
  config: ModelConfig;
  graph: Graph;
  backend: Backend;
  tokenizer: Tokenizer;
  template: ChatTemplate | null;
  quantization: string | null;
  parameters: number;
  /** What the edge is told. */
  card(servedName: string): ModelCard;
  /** The name to serve it under when none is given. */
  baseName: string;
}

/** Stands in where prompts are ids and nobody reads the text: every id is without a piece and gives no text. */
const NO_TOKENIZER = { model: { type: 'BPE', vocab: {}, merges: [] }, decoder: { type: 'ByteLevel' } };

/** Loads --model-id on --backend as --quantize says. `text`: whether the command can do without tokenizer.json. */
export async function loadModel(options: Options, text: 'needed' | 'optional' = 'needed'): Promise<LoadedModel> {
  const path = options.required('model-id');
  const cached = await openCachedModel(options);
  const { files } = cached;
  try {
    if (files.lone !== undefined)
      throw new NibbleError({
        code: 'file_missing',
        file: path,
        reason: 'is one file; a directory with config.json and tokenizer.json is needed to run a model',
      });
    const configJson = await readJson(files, 'config.json', MAX_CONFIG_BYTES, 'required');
    const generation = await readJson(files, 'generation_config.json', MAX_CONFIG_BYTES);
    const config = parseModelConfig(configJson, generation, `${path}/config.json`);
    const checkpoint = await openCheckpoint(files);
    const quantization = await readQuantization(files, options.text('quantize'), checkpoint);

    const presence = text === 'needed' ? 'required' : 'optional';
    const tokenizerJson = (await readJson(files, 'tokenizer.json', MAX_TOKENIZER_BYTES, presence)) ?? NO_TOKENIZER;
    const tokenizerConfig = (await readJson(files, 'tokenizer_config.json', MAX_CONFIG_BYTES)) ?? {};
    const tokenizer = new Tokenizer(tokenizerJson, tokenizerConfig);
    const template = chatTemplateOf(tokenizerConfig, await readText(files, 'chat_template.jinja', MAX_CONFIG_BYTES));

    const backend = await openBackend(options.text('backend') ?? 'auto');
    const onLoad = quantization.kind === 'bitsandbytes' ? quantization.method : null;
    const recorder = onLoad === null ? null : await cached.record(checkpoint, onLoad);
    checkpoint.expect?.(loadOrder(checkpoint.tensors.keys(), config));
    const weights = await loadModelWeights(checkpoint, {
      config,
      quantization,
      backend: recorder === null ? backend : recorded(backend, recorder),
      onTensor: progressBar('Loading'),
    });
    await cached.fill();
    const bits = quantization.kind === 'gptq' ? quantization.config.bits : 0;
    const parameters = await countParameters(checkpoint, bits);
    const label = quantizationLabel(quantization);
    return {
      config,
      graph: new Graph(config, weights, backend),
      backend,
      tokenizer,
      template,
      quantization: label,
      parameters,
      baseName: basename(files.baseName),
      card: (servedName) => ({
        id: servedName,
        architecture: config.architecture,
        quantization: label,
        contextTokens: config.contextTokens,
        vocabSize: config.vocabSize,
        parameters,
        ...textBound(tokenizerJson, config.contextTokens),
        chat: template === null ? null : chatBound(template, tokenizer, config.contextTokens),
      }),
    };
  } finally {
    await cached.close();
  }
}

/** The backend, with every linear shown to the recorder on its way. */
function recorded(backend: Backend, recorder: PackedRecorder): Pick<Backend, 'loadLinear' | 'loadVector'> {
  return {
    async loadLinear(weight, label) {
      await recorder.record(label, weight);
      return backend.loadLinear(weight, label);
    },
    loadVector: (values, label) => backend.loadVector(values, label),
  };
}

/** A tokenizer whose growth is not known may fill the context: then that is what a prompt reserves. */
function textBound(
  tokenizerJson: unknown,
  contextTokens: number,
): Pick<ModelCard, 'maxTokensPerByte' | 'textOverheadTokens'> {
  try {
    const { perByte, overhead } = maxTokensPerByte(tokenizerJson);
    return { maxTokensPerByte: perByte, textOverheadTokens: overhead };
  } catch (error) {
    if (failureOf(error).code !== 'model_unsupported') throw error;
    return { maxTokensPerByte: 1, textOverheadTokens: contextTokens };
  }
}

/** Tokens that the template itself adds: measured on empty messages, doubled for what a template may do by role or position. */
function chatBound(
  template: ChatTemplate,
  tokenizer: Tokenizer,
  contextTokens: number,
): NonNullable<ModelCard['chat']> {
  const tokens = (messages: number) => {
    const conversation = Array.from({ length: messages }, (_, i) => ({
      role: i % 2 === 0 ? 'user' : 'assistant',
      content: '',
    }));
    return tokenizer.encode(template.render(conversation), 'none').length;
  };
  try {
    const [one, three] = [tokens(1), tokens(3)];
    return { baseTokens: 2 * one, perMessageTokens: Math.max(8, three - one) };
  } catch (error) {
    // A template that will not have these messages says nothing of its size.
    if (failureOf(error).code !== 'invalid_request') throw error;
    return { baseTokens: contextTokens, perMessageTokens: 0 };
  }
}
