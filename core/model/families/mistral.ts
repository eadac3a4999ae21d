/** Mistral: Llama whose every layer sees a sliding window. */
import type { Architecture } from '../architecture.ts';
import { type ConfigFile, dimension } from './family.ts';
import { everyLayer, LlamaFields, llamaArchitecture } from './llama.ts';

const MistralFields = LlamaFields.extend({ sliding_window: dimension.nullable().default(4096) });

export function mistral(json: unknown, file: ConfigFile): Architecture {
  const config = file.parse(MistralFields, json);
  file.allowOnly(json as object, { layer_types: null, attention_bias: false, mlp_bias: false });
  return llamaArchitecture(config, everyLayer(config, config.sliding_window, file), file);
}
