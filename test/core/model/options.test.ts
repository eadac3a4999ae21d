/** Options: each one of a fixture's, switched off in its ModelConfig, changes what the model says. Else its golden logits prove nothing about it. */
import { expect, test } from 'vitest';
import type { LayerAttention } from '../../../core/model/architecture.ts';
import type { ModelConfig } from '../../../core/model/config.ts';
import type { RopeOptions, RopeScaling } from '../../../core/model/rope.ts';
import { type FixtureName, largestDifference, logitsOf, openFixture } from './fixtures.ts';

type Switch = (config: ModelConfig) => ModelConfig;

function layers(change: (layer: LayerAttention, config: ModelConfig) => LayerAttention): Switch {
  return (config) => ({ ...config, layerAttention: config.layerAttention.map((layer) => change(layer, config)) });
}
function ropes(change: (rope: RopeOptions, config: ModelConfig) => RopeOptions): Switch {
  return layers((layer, config) => ({ ...layer, rope: change(layer.rope!, config) }));
}

const noRope = layers((layer) => ({ ...layer, rope: null }));
const noScaling = ropes((rope) => ({ ...rope, scaling: { kind: 'none' } }));
const noAttentionFactor = ropes((rope) => ({
  ...rope,
  scaling: { ...rope.scaling, attentionFactor: 1 } as RopeScaling,
}));
const noWindow = layers((layer) => ({ ...layer, window: null }));
const noBias = (which: keyof ModelConfig['bias']): Switch => {
  return (config) => ({ ...config, bias: { ...config.bias, [which]: false } });
};
const noHeadNorm: Switch = (config) => ({ ...config, queryKeyNorm: 'none' });
const noEmbeddingScale: Switch = (config) => ({ ...config, embeddingScale: 1 });
const noNormOffset: Switch = (config) => ({ ...config, norm: { ...config.norm, kind: 'rms', weightOffset: 0 } });
const rmsNorm: Switch = (config) => ({ ...config, norm: { kind: 'rms', eps: config.norm.eps, weightOffset: 0 } });
const relu: Switch = (config) => ({ ...config, activation: 'relu' });
const silu: Switch = (config) => ({ ...config, activation: 'silu' });
const preNorm: Switch = (config) => ({ ...config, placement: 'pre' });
const usualScale: Switch = (config) => ({ ...config, attentionScale: 1 / Math.sqrt(config.headDim) });
const noAttentionSoftcap: Switch = (config) => ({ ...config, attentionSoftcap: null });
const noLogitSoftcap: Switch = (config) => ({ ...config, logitSoftcap: null });
const oneTheta: Switch = (config) =>
  ropes((rope) => ({ ...rope, theta: config.layerAttention[0]!.rope!.theta }))(config);
const wholeHeads = ropes((_, config) => ({ rotaryDim: config.headDim, theta: 10_000, scaling: { kind: 'none' } }));
const sharedNorm: Switch = ({ tensors, ...config }) => ({
  ...config,
  tensors: { ...tensors, norms: { ...tensors.norms, mlp: null } },
});
const blocks: Switch = ({ tensors, ...config }) => ({
  ...config,
  tensors: {
    ...tensors,
    queryKeyValue: { ...tensors.queryKeyValue, layout: 'blocks' } as typeof tensors.queryKeyValue,
  },
});

const GEMMA3: Record<string, Switch> = {
  rope: noRope,
  'rope scaling': noScaling,
  'local rope base': oneTheta,
  window: noWindow,
  'q/k norm': noHeadNorm,
  'query scalar': usualScale,
  'sandwich norms': preNorm,
  'embedding scale': noEmbeddingScale,
};

const SWITCHES: Record<FixtureName, Record<string, Switch>> = {
  llama: { rope: noRope, activation: relu },
  'llama-linear': {
    rope: noRope,
    'rope scaling': noScaling,
    'qkv bias': noBias('queryKeyValue'),
    'attention output bias': noBias('attentionOutput'),
    'mlp bias': noBias('mlp'),
  },
  'llama-dynamic': { rope: noRope, 'rope scaling': noScaling },
  'llama-llama3': { rope: noRope, 'rope scaling': noScaling },
  'llama-yarn': { rope: noRope, 'rope scaling': noScaling, 'attention factor': noAttentionFactor },
  mistral: { rope: noRope, window: noWindow },
  qwen2: { rope: noRope, window: noWindow, 'qkv bias': noBias('queryKeyValue') },
  qwen3: { rope: noRope, 'q/k norm': noHeadNorm },
  phi3: { rope: noRope, window: noWindow },
  'phi3-longrope': {
    rope: noRope,
    'rope scaling': noScaling,
    'attention factor': noAttentionFactor,
    'partial rotation': wholeHeads,
  },
  gemma: { rope: noRope, 'embedding scale': noEmbeddingScale, 'norm offset': noNormOffset, activation: relu },
  gemma2: {
    rope: noRope,
    window: noWindow,
    'attention softcap': noAttentionSoftcap,
    'logit softcap': noLogitSoftcap,
    'query scalar': usualScale,
    'sandwich norms': preNorm,
    'embedding scale': noEmbeddingScale,
    'norm offset': noNormOffset,
  },
  gemma3: GEMMA3,
  'gemma3-vision': GEMMA3,
  'falcon-7b': { rope: noRope, 'parallel attention': preNorm, LayerNorm: rmsNorm, activation: relu },
  'falcon-40b': { rope: noRope, 'parallel attention': preNorm, 'second norm': sharedNorm, groups: blocks },
  'falcon-11b': { rope: noRope, 'parallel attention': preNorm },
  'falcon-rw': {
    ALiBi: (config) => ({ ...config, alibiSlopes: null }),
    'qkv bias': noBias('queryKeyValue'),
    'attention output bias': noBias('attentionOutput'),
    'mlp bias': noBias('mlp'),
    groups: blocks,
  },
  opt: {
    'learned positions': (config) => ({ ...config, learnedPositions: null }),
    'position offset': (config) => ({ ...config, learnedPositions: { ...config.learnedPositions!, offset: 0 } }),
    'qkv bias': noBias('queryKeyValue'),
    'mlp bias': noBias('mlp'),
    LayerNorm: rmsNorm,
    activation: silu,
  },
  'opt-350m': { 'norm after': preNorm, 'learned positions': (config) => ({ ...config, learnedPositions: null }) },
};

const CASES = Object.entries(SWITCHES).flatMap(([name, switches]) =>
  Object.entries(switches).map(([option, off]) => [name as FixtureName, option, off] as const),
);

test.each(CASES)('%s without its %s moves some logit by 0.1 or more', async (name, _option, off) => {
  const fixture = await openFixture(name);
  const { ids, logits } = fixture.golden.long;
  const without = await logitsOf({ ...fixture, config: off(fixture.config) }, ids);
  expect(largestDifference(without, logits)).toBeGreaterThanOrEqual(0.1);
});
