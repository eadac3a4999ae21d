import { describe, expect, test } from 'vitest';
import { failureOf } from '../../../core/errors.ts';
import { parseModelConfig } from '../../../core/model/config.ts';
import { configJson, FIXTURES, type FixtureName } from './fixtures.ts';

const parse = (json: unknown, generation: unknown = null) => parseModelConfig(json, generation, 'config.json');

function failureWith(name: FixtureName, changes: Record<string, unknown>) {
  try {
    return parse({ ...configJson(name), ...changes });
  } catch (error) {
    return failureOf(error);
  }
}

/** The file as transformers 4 would write it: rope_theta, rope_scaling and Gemma 3's own fields instead of rope_parameters. */
function olderSpelling(name: FixtureName): Record<string, unknown> {
  const { rope_parameters: parameters, layer_types: _, ...json } = configJson(name);
  const { full_attention: full, sliding_attention: sliding } = parameters as Record<string, Record<string, unknown>>;
  const { rope_theta, rope_type, ...rest } = full ?? (parameters as Record<string, unknown>);
  const rope_scaling = rope_type === 'default' ? null : { type: rope_type, ...rest };
  const local = sliding === undefined ? {} : { rope_local_base_freq: sliding.rope_theta, sliding_window_pattern: 3 };
  return { ...json, rope_theta, rope_scaling, ...local };
}

describe('both spellings of rope options', () => {
  test.each(FIXTURES.filter((name) => 'rope_parameters' in configJson(name)))('%s', (name) => {
    expect(parse(olderSpelling(name))).toEqual(parse(configJson(name)));
  });
});

describe('names of the first Falcon files', () => {
  const older = (name: FixtureName, model_type: string) => {
    const {
      num_attention_heads: n_head,
      num_hidden_layers: n_layer,
      num_kv_heads: n_head_kv,
      ...json
    } = configJson(name);
    const { new_decoder_architecture: _, ...rest } = json;
    return parse({ ...rest, n_head, n_layer, n_head_kv, model_type });
  };
  test('RefinedWebModel is Falcon 7B', () => {
    expect(older('falcon-7b', 'RefinedWebModel')).toEqual(parse(configJson('falcon-7b')));
  });
  test('RefinedWebModel without multi_query and parallel_attn is Falcon RW', () => {
    const { multi_query: _, parallel_attn: __, ...json } = configJson('falcon-rw');
    expect(parse({ ...json, model_type: 'RefinedWebModel' })).toEqual(parse(configJson('falcon-rw')));
  });
  test('RefinedWeb is Falcon 40B', () => {
    expect(older('falcon-40b', 'RefinedWeb')).toEqual(parse(configJson('falcon-40b')));
  });
});

describe('an option that is not supported is refused by its name', () => {
  const text = configJson('gemma3-vision').text_config as object;
  const scaling = (rope_type: string, rest = {}) => ({ rope_parameters: { rope_type, rope_theta: 10_000, ...rest } });
  test.each<[FixtureName, Record<string, unknown>, string]>([
    ['llama', { model_type: 'mamba' }, 'model_type "mamba"'],
    ['llama', { model_type: 'constructor' }, 'model_type "constructor"'],
    ['gemma3-vision', { text_config: { ...text, attn_logit_softcapping: 50 } }, 'attn_logit_softcapping'],
    ['gemma3-vision', { text_config: { ...text, logit_scale: 0.5 } }, 'logit_scale'],
    ['llama', { attention_multiplier: 0.5 }, 'attention_multiplier'],
    ['llama', { logit_scale: 0.0625 }, 'logit_scale'],
    ['llama', { clip_qkv: 8 }, 'clip_qkv'],
    ['llama', { no_rope_layers: [1, 0] }, 'no_rope_layers'],
    ['llama', { layer_types: ['full_attention', 'sliding_attention'] }, 'layer_types'],
    ['mistral', { num_local_experts: 8 }, 'num_local_experts'],
    ['qwen2', { use_mrope: true }, 'use_mrope'],
    ['qwen3', { num_experts: 128 }, 'num_experts'],
    ['phi3', { qk_layernorm: true }, 'qk_layernorm'],
    ['gemma', { final_logit_softcapping: 30 }, 'final_logit_softcapping'],
    ['gemma2', { use_qk_norm: true }, 'use_qk_norm'],
    ['falcon-7b', { rotary_pct: 0.5 }, 'rotary_pct'],
    ['opt', { alibi: true }, 'alibi'],
    ['llama', { hidden_act: 'xielu' }, 'hidden_act "xielu"'],
    ['llama', { hidden_act: 'toString' }, 'hidden_act "toString"'],
    ['llama', { sliding_window: 8 }, 'sliding_window'],
    ['llama', { partial_rotary_factor: 0.5 }, 'partial_rotary_factor'],
    ['llama', scaling('proportional', { factor: 2 }), 'rope type "proportional"'],
    ['llama', scaling('default', { mrope_section: [1, 1, 2] }), 'rope parameter "mrope_section"'],
    ['mistral', { layer_types: ['full_attention', 'sliding_attention'] }, 'layer_types'],
    ['mistral', { attention_bias: true }, 'attention_bias'],
    ['qwen2', { layer_types: ['full_attention', 'chunked_attention'] }, 'layer_types "chunked_attention"'],
    ['qwen2', { attention_bias: false }, 'attention_bias'],
    ['qwen3', { mlp_bias: true }, 'mlp_bias'],
    ['phi3', scaling('yarn', { factor: 2 }), 'rope type "yarn"'],
    ['phi3', { attention_bias: true }, 'attention_bias'],
    ['gemma', { use_bidirectional_attention: true }, 'use_bidirectional_attention'],
    ['gemma2', { use_bidirectional_attention: true }, 'use_bidirectional_attention'],
    ['gemma2', { hidden_activation: 'mish' }, 'hidden_activation "mish"'],
    ['gemma3', { use_bidirectional_attention: true }, 'use_bidirectional_attention'],
    ['gemma3', { attn_logit_softcapping: 50 }, 'attn_logit_softcapping'],
    ['falcon-7b', { apply_residual_connection_post_layernorm: true }, 'apply_residual_connection_post_layernorm'],
    ['falcon-7b', { num_ln_in_parallel_attn: 2 }, 'num_ln_in_parallel_attn'],
    ['falcon-40b', { parallel_attn: false }, 'parallel_attn'],
    ['falcon-40b', { alibi: true }, 'alibi'],
    ['falcon-rw', { num_kv_heads: 2 }, 'num_kv_heads'],
    ['falcon-rw', { activation: 'quick_gelu' }, 'activation "quick_gelu"'],
    ['opt', { _remove_final_layer_norm: true }, '_remove_final_layer_norm'],
    ['opt', { layer_norm_elementwise_affine: false }, 'layer_norm_elementwise_affine'],
    ['opt', { activation_function: 'tanh' }, 'activation_function "tanh"'],
  ])('%s with %j', (name, changes, option) => {
    expect(failureWith(name, changes)).toMatchObject({ code: 'model_unsupported', file: 'config.json', option });
  });
});

describe('a config that cannot be is refused by its rule', () => {
  const longrope = (changes: Record<string, unknown>) => ({
    rope_parameters: { ...(configJson('phi3-longrope').rope_parameters as object), ...changes },
  });
  test.each<[FixtureName, Record<string, unknown>, RegExp]>([
    ['llama', { hidden_size: 0 }, /hidden_size/],
    ['llama', { hidden_size: 1e9 }, /hidden_size/],
    ['llama', { num_hidden_layers: 100_000 }, /num_hidden_layers/],
    ['llama', { num_attention_heads: 1e6 }, /num_attention_heads/],
    ['llama', { num_key_value_heads: 3 }, /multiple of num_key_value_heads/],
    ['llama', { head_dim: 7 }, /pairs/],
    ['llama', { head_dim: null, hidden_size: 33 }, /multiple of 4 attention heads/],
    ['llama', { hidden_act: 7 }, /hidden_act/],
    ['llama', { rope_parameters: { rope_type: 'linear' } }, /needs factor/],
    ['llama', { rope_parameters: { rope_type: 'linear', factor: 0.5 } }, /factor/],
    [
      'llama',
      { rope_parameters: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 4 } },
      /above/,
    ],
    ['phi3-longrope', longrope({ long_factor: [1, 2] }), /need 6 entries/],
    ['phi3-longrope', longrope({ long_factor: [1, 2, 3, 4, 5, 0] }), /long_factor/],
    ['qwen2', { layer_types: ['full_attention'] }, /layer_types has 1 entries/],
    ['qwen2', { use_sliding_window: false }, /sliding_window is not set/],
    ['gemma2', { attn_logit_softcapping: -1 }, /attn_logit_softcapping/],
    ['gemma3', { rope_parameters: { rope_type: 'default' } }, /full_attention and sliding_attention/],
    ['falcon-40b', { num_kv_heads: 3 }, /multiple of num_kv_heads/],
    ['falcon-7b', { num_attention_heads: null }, /num_attention_heads: is missing/],
    ['opt', { num_attention_heads: 5 }, /multiple of 5 attention heads/],
  ])('%s with %j', (name, changes, rule) => {
    expect(failureWith(name, changes)).toMatchObject({ code: 'file_invalid', rule: expect.stringMatching(rule) });
  });
});

describe('what the model may see', () => {
  test.each<[FixtureName, number]>([
    ['llama', 64],
    ['llama-linear', 256],
    ['llama-dynamic', 64],
    ['llama-llama3', 64],
    ['llama-yarn', 64],
    ['phi3-longrope', 64],
    ['gemma3', 64],
  ])('%s: %i tokens', (name, tokens) => {
    expect(parse(configJson(name)).contextTokens).toBe(tokens);
  });
});

describe('generation_config.json', () => {
  test('its eos ids win, and its sampling is the default', () => {
    const generation = { eos_token_id: [5, 6], temperature: 0.5, top_k: 7, top_p: 0.9 };
    const config = parse(configJson('opt'), generation);
    expect([config.eosTokenIds, config.sampling]).toEqual([[5, 6], { temperature: 0.5, topK: 7, topP: 0.9 }]);
    expect(parse(configJson('opt')).eosTokenIds).toEqual([2]);
  });
});
