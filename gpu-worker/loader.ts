/** Loader: from a model's files to a graph on a backend, with its tokenizer and template. */
import { basename } from 'node:path';
import { NibbleError } from '../core/errors.ts';
import { openCheckpoint } from '../core/formats/checkpoint-index.ts';
import { readJson, readText } from '../core/formats/file-set.ts';
import { readQuantizationConfig } from '../core/formats/gptq-config.ts';
import type { Backend } from '../core/model/backend.ts';
import { loadModelWeights } from '../core/model/checkpoint.ts';
import { type ModelConfig, parseModelConfig } from '../core/model/config.ts';
import { Graph } from '../core/model/graph.ts';
import type { ModelCard } from '../core/protocol.ts';
import { type ChatTemplate, chatTemplateOf } from '../core/text/chat-template.ts';
import { maxTokensPerByte } from '../core/text/token-bound.ts';
import { Tokenizer } from '../core/text/tokenizer.ts';
import { openBackend } from './backends.ts';
import { type Options, usage } from './command-line.ts';
import { progressBar } from './progress.ts';
import { openLocalModel } from './store/local.ts';

/** A few thousand times any config seen; a tokenizer of 256k tokens with merges has 33 MB. */
const MAX_CONFIG_BYTES = 4_000_000;
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

/** Loads --model-id on --backend as --quantize says. */
export async function loadModel(options: Options): Promise<LoadedModel> {
  const path = options.required('model-id');
  const files = await openLocalModel(path);
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
    const gptq = await readQuantizationConfig(files);
    checkQuantize(options.text('quantize'), gptq !== null, path);

    const tokenizerJson = await readJson(files, 'tokenizer.json', MAX_TOKENIZER_BYTES, 'required');
    const tokenizerConfig = (await readJson(files, 'tokenizer_config.json', MAX_CONFIG_BYTES)) ?? {};
    const tokenizer = new Tokenizer(tokenizerJson, tokenizerConfig);
    const template = chatTemplateOf(tokenizerConfig, await readText(files, 'chat_template.jinja', MAX_CONFIG_BYTES));

    const checkpoint = await openCheckpoint(files);
    const backend = await openBackend(options.text('backend') ?? 'auto');
    const weights = await loadModelWeights(checkpoint, { config, gptq, backend, onTensor: progressBar('Loading') });
    const parameters = countParameters(config);
    const bound = maxTokensPerByte(tokenizerJson);
    const quantization = gptq === null ? null : `gptq-int${gptq.bits}`;
    return {
      config,
      graph: new Graph(config, weights, backend),
      backend,
      tokenizer,
      template,
      quantization,
      parameters,
      baseName: basename(files.baseName),
      card: (servedName) => ({
        id: servedName,
        architecture: config.architecture,
        quantization,
        contextTokens: config.contextTokens,
        vocabSize: config.vocabSize,
        parameters,
        maxTokensPerByte: bound.perByte,
        textOverheadTokens: bound.overhead,
        chat: template === null ? null : chatBound(template, tokenizer),
      }),
    };
  } finally {
    await files.close();
  }
}

/** --quantize against what the checkpoint is. */
function checkQuantize(wanted: string | null, isGptq: boolean, path: string): void {
  if (wanted === null || (wanted === 'gptq') === isGptq) {
    if (wanted?.startsWith('bitsandbytes')) throw usage(`--quantize ${wanted} is not supported yet`);
    return;
  }
  if (wanted === 'gptq')
    throw new NibbleError({
      code: 'model_unsupported',
      file: path,
      option: '--quantize gptq',
      reason: 'the checkpoint is not GPTQ; its config has no quantization_config',
    });
  if (wanted.startsWith('bitsandbytes')) throw usage(`--quantize ${wanted} is not supported yet`);
  throw new NibbleError({
    code: 'model_unsupported',
    file: path,
    option: `--quantize ${wanted}`,
    reason: 'the checkpoint is GPTQ and is served as such',
  });
}

function countParameters(config: ModelConfig): number {
  const { hidden, intermediate, heads, kvHeads, headDim, layers, vocabSize } = config;
  const attention = hidden * headDim * (2 * heads + 2 * kvHeads);
  const tables = vocabSize * hidden * (config.tiedHead ? 1 : 2);
  return tables + layers * (attention + 3 * hidden * intermediate + 2 * hidden) + hidden;
}

/** Tokens that the template itself adds: measured on empty messages, doubled for what a template may do by role or position. */
function chatBound(template: ChatTemplate, tokenizer: Tokenizer): { baseTokens: number; perMessageTokens: number } {
  const tokens = (messages: number) => {
    const conversation = Array.from({ length: messages }, (_, i) => ({
      role: i % 2 === 0 ? 'user' : 'assistant',
      content: '',
    }));
    return tokenizer.encode(template.render(conversation), 'none').length;
  };
  const [one, three] = [tokens(1), tokens(3)];
  return { baseTokens: 2 * one, perMessageTokens: Math.max(8, three - one) };
}
