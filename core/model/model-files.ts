/** Model files: what a model's directory holds beside its weights' bytes, read in two steps: first what is small, then what reads text. */
import { failureOf } from '../errors.ts';
import { type CheckpointFiles, openCheckpoint } from '../formats/checkpoint-index.ts';
import { type FileSet, readJson, readText } from '../formats/file-set.ts';
import { type Quantization, quantizationLabel, readQuantization } from '../formats/quantization.ts';
import { MAX_CONFIG_BYTES } from '../formats/quantization-config.ts';
import { countParameters } from '../formats/quantized-modules.ts';
import type { ModelCard } from '../protocol.ts';
import { type ChatTemplate, chatTemplateOf } from '../text/chat-template.ts';
import { maxTokensPerByte } from '../text/token-bound.ts';
import { Tokenizer } from '../text/tokenizer.ts';
import { type ModelConfig, parseModelConfig } from './config.ts';

/** A tokenizer of 256k tokens with merges has 33 MB. */
export const MAX_TOKENIZER_BYTES = 100_000_000;
/** Stands in where prompts are ids and nobody reads the text: every id is without a piece and gives no text. */
const NO_TOKENIZER = { model: { type: 'BPE', vocab: {}, merges: [] }, decoder: { type: 'ByteLevel' } };

/** Config, tensors' names and shapes, quantization; no tensor was read. */
export interface ModelOutline {
  config: ModelConfig;
  checkpoint: CheckpointFiles;
  quantization: Quantization;
  parameters: number;
}

export interface ModelText {
  tokenizer: Tokenizer;
  template: ChatTemplate | null;
  /** The upper bounds of a card. */
  bounds: Pick<ModelCard, 'maxTokensPerByte' | 'textOverheadTokens' | 'chat'>;
}

/** `quantize` is --quantize's value, null without one. Throws `file_missing`, `file_invalid` or `model_unsupported` by name. */
export async function openModelOutline(files: FileSet, quantize: string | null): Promise<ModelOutline> {
  const configJson = await readJson(files, 'config.json', MAX_CONFIG_BYTES, 'required');
  const generation = await readJson(files, 'generation_config.json', MAX_CONFIG_BYTES);
  const config = parseModelConfig(configJson, generation, `${files.name}/config.json`);
  const checkpoint = await openCheckpoint(files);
  const quantization = await readQuantization(files, quantize, checkpoint);
  const bits = quantization.kind === 'gptq' ? quantization.config.bits : 0;
  return { config, checkpoint, quantization, parameters: await countParameters(checkpoint, bits) };
}

/** `presence`: whether tokenizer.json must be there, or ids alone will do. */
export async function openModelText(
  files: FileSet,
  contextTokens: number,
  presence: 'required' | 'optional',
): Promise<ModelText> {
  const tokenizerJson = (await readJson(files, 'tokenizer.json', MAX_TOKENIZER_BYTES, presence)) ?? NO_TOKENIZER;
  const tokenizerConfig = (await readJson(files, 'tokenizer_config.json', MAX_CONFIG_BYTES)) ?? {};
  const tokenizer = new Tokenizer(tokenizerJson, tokenizerConfig);
  const template = chatTemplateOf(tokenizerConfig, await readText(files, 'chat_template.jinja', MAX_CONFIG_BYTES));
  const chat = template === null ? null : chatBound(template, tokenizer, contextTokens);
  return { tokenizer, template, bounds: { ...textBound(tokenizerJson, contextTokens), chat } };
}

/** What the edge is told. `contextTokens` may be less than the model's own. */
export function modelCard(id: string, outline: ModelOutline, { bounds }: ModelText, contextTokens: number): ModelCard {
  const { config, quantization, parameters } = outline;
  const { architecture, vocabSize } = config;
  return {
    id,
    architecture,
    quantization: quantizationLabel(quantization),
    contextTokens,
    vocabSize,
    parameters,
    ...bounds,
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
