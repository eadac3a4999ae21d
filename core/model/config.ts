/** Config: what config.json says of a model, checked. An option this build cannot run is refused by name, never ignored. */
import { z } from 'zod';
import { NibbleError } from '../errors.ts';
import type { Architecture } from './architecture.ts';
import { falcon } from './families/falcon.ts';
import { ConfigFile, type Family } from './families/family.ts';
import { refuseForeignOptions } from './families/foreign-options.ts';
import { gemma, gemma2, gemma3, gemma3Vision } from './families/gemma.ts';
import { llama } from './families/llama.ts';
import { mistral } from './families/mistral.ts';
import { opt } from './families/opt.ts';
import { phi3 } from './families/phi3.ts';
import { qwen2, qwen3 } from './families/qwen.ts';

/** By config.json's model_type. */
const FAMILIES: Readonly<Record<string, Family>> = {
  llama,
  mistral,
  qwen2,
  qwen3,
  phi3,
  gemma,
  gemma2,
  gemma3_text: gemma3,
  gemma3: gemma3Vision,
  falcon,
  /** What Falcon's files said before transformers knew it. */
  RefinedWeb: falcon,
  RefinedWebModel: falcon,
  opt,
};

export interface ModelConfig extends Architecture {
  eosTokenIds: readonly number[];
  /** How its makers sample from it; 1, 0 and 1 where they do not say. */
  sampling: SamplingDefaults;
}

export interface SamplingDefaults {
  temperature: number;
  topK: number;
  topP: number;
}

const tokenIds = z.union([z.int().min(0), z.array(z.int().min(0)).max(64)]).nullish();
const CommonFields = z.object({
  model_type: z.string().max(100),
  eos_token_id: tokenIds,
  /** Of a model that reads images too. */
  text_config: z.looseObject({ eos_token_id: tokenIds }).nullish(),
});

/** generation_config.json, as far as it is read. Values out of range are errors, not defaults. */
const GenerationConfigJson = z.object({
  eos_token_id: tokenIds,
  temperature: z.number().min(0).max(100).nullish(),
  top_k: z.int().min(0).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
});

/** `generation` is generation_config.json or null; its eos ids win, as they do in transformers. `file` names config.json in errors. */
export function parseModelConfig(json: unknown, generation: unknown, file: string): ModelConfig {
  const configFile = new ConfigFile(file);
  const { model_type: modelType, eos_token_id: own, text_config: text } = configFile.parse(CommonFields, json);
  const family = Object.hasOwn(FAMILIES, modelType) ? FAMILIES[modelType] : undefined;
  if (family === undefined)
    throw configFile.unsupported(
      `model_type ${JSON.stringify(modelType)}`,
      `this version runs ${Object.keys(FAMILIES).join(', ')}`,
    );
  for (const options of [json as object, text ?? {}]) refuseForeignOptions(options, modelType, configFile);
  const generated = parseGeneration(generation, file);
  return {
    ...family(json, configFile),
    eosTokenIds: listOf(generated.eos_token_id ?? own ?? text?.eos_token_id),
    sampling: { temperature: generated.temperature ?? 1, topK: generated.top_k ?? 0, topP: generated.top_p ?? 1 },
  };
}

function parseGeneration(json: unknown, file: string): z.infer<typeof GenerationConfigJson> {
  const parsed = GenerationConfigJson.safeParse(json ?? {});
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const rule = `generation_config.json beside it: ${issue?.path.join('.') || 'config'}: ${issue?.message}`;
  throw new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
}

function listOf(ids: number | number[] | null | undefined): readonly number[] {
  if (ids == null) return [];
  return typeof ids === 'number' ? [ids] : ids;
}
