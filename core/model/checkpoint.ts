/** Checkpoint: from tensor names of a Hugging Face Llama checkpoint to weights on a backend, tensor by tensor. */
import { NibbleError } from '../errors.ts';
import type { CheckpointFiles } from '../formats/checkpoint-index.ts';
import { type FloatDtype, floatsOf } from '../formats/floats.ts';
import { readGptqWeight } from '../formats/gptq.ts';
import { type GptqConfig, isConverted } from '../formats/gptq-config.ts';
import type { Backend, DenseWeight, Linear, Vector } from './backend.ts';
import type { ModelConfig } from './config.ts';
import type { LayerWeights, ModelWeights } from './graph.ts';

export interface LoadOptions {
  config: ModelConfig;
  /** null: plain weights throughout. */
  gptq: GptqConfig | null;
  backend: Backend;
  /** Called after each tensor with how many of `total` are on the backend. */
  onTensor?: (done: number, total: number) => void;
}

/** Loads every weight the graph needs. Tensors of the checkpoint that it does not need are left alone. */
export async function loadModelWeights(checkpoint: CheckpointFiles, options: LoadOptions): Promise<ModelWeights> {
  const { config, gptq, backend } = options;
  const total = 2 + config.layers * 9 + (config.tiedHead ? 0 : 1);
  let done = 0;
  const counted = <Loaded>(loaded: Loaded): Loaded => {
    options.onTensor?.(++done, total);
    return loaded;
  };

  const linear = async (prefix: string, outFeatures: number, inFeatures: number, hasBias: boolean): Promise<Linear> => {
    const weight =
      gptq !== null && isConverted(prefix, gptq)
        ? await readGptqWeight(checkpoint, prefix, gptq)
        : await readDense(checkpoint, prefix, [outFeatures, inFeatures], hasBias);
    if (weight.outFeatures !== outFeatures || weight.inFeatures !== inFeatures)
      throw invalid(
        checkpoint,
        prefix,
        `is [${weight.outFeatures}, ${weight.inFeatures}], config.json says [${outFeatures}, ${inFeatures}]`,
      );
    return counted(await backend.loadLinear(weight, prefix));
  };
  const vector = async (name: string, length: number): Promise<Vector> =>
    counted(backend.loadVector(await readFloats(checkpoint, name, [length]), name));

  const { hidden, intermediate, heads, kvHeads, headDim, vocabSize, attentionBias, mlpBias } = config;
  const embedding = counted(
    await backend.loadLinear(
      await readDense(checkpoint, 'model.embed_tokens', [vocabSize, hidden], false),
      'model.embed_tokens',
    ),
  );
  const layers: LayerWeights[] = [];
  for (let index = 0; index < config.layers; index++) {
    const layer = `model.layers.${index}`;
    layers.push({
      attentionNorm: await vector(`${layer}.input_layernorm.weight`, hidden),
      query: await linear(`${layer}.self_attn.q_proj`, heads * headDim, hidden, attentionBias),
      key: await linear(`${layer}.self_attn.k_proj`, kvHeads * headDim, hidden, attentionBias),
      value: await linear(`${layer}.self_attn.v_proj`, kvHeads * headDim, hidden, attentionBias),
      output: await linear(`${layer}.self_attn.o_proj`, hidden, heads * headDim, attentionBias),
      mlpNorm: await vector(`${layer}.post_attention_layernorm.weight`, hidden),
      gate: await linear(`${layer}.mlp.gate_proj`, intermediate, hidden, mlpBias),
      up: await linear(`${layer}.mlp.up_proj`, intermediate, hidden, mlpBias),
      down: await linear(`${layer}.mlp.down_proj`, hidden, intermediate, mlpBias),
    });
  }
  const finalNorm = await vector('model.norm.weight', hidden);
  const head = config.tiedHead
    ? embedding
    : counted(await backend.loadLinear(await readDense(checkpoint, 'lm_head', [vocabSize, hidden], false), 'lm_head'));
  return { embedding, layers, finalNorm, head };
}

async function readDense(
  checkpoint: CheckpointFiles,
  prefix: string,
  shape: [number, number],
  hasBias: boolean,
): Promise<DenseWeight> {
  const name = `${prefix}.weight`;
  const dtype = floatDtype(checkpoint, name, shape);
  const bytes = await checkpoint.read(name);
  const bias = hasBias ? await readFloats(checkpoint, `${prefix}.bias`, [shape[0]]) : null;
  return { kind: 'dense', outFeatures: shape[0], inFeatures: shape[1], dtype, bytes, bias };
}

async function readFloats(checkpoint: CheckpointFiles, name: string, shape: number[]): Promise<Float32Array> {
  const dtype = floatDtype(checkpoint, name, shape);
  return floatsOf(await checkpoint.read(name), dtype);
}

/** Checks that the tensor exists with this shape and a float dtype. */
function floatDtype(checkpoint: CheckpointFiles, name: string, shape: number[]): FloatDtype {
  const entry = checkpoint.tensors.get(name);
  if (entry === undefined) throw invalid(checkpoint, name, 'is missing');
  if (entry.shape.length !== shape.length || entry.shape.some((size, i) => size !== shape[i]))
    throw invalid(
      checkpoint,
      name,
      `has shape [${entry.shape.join(', ')}], config.json asks for [${shape.join(', ')}]`,
    );
  switch (entry.dtype) {
    case 'F32':
      return 'f32';
    case 'F16':
      return 'f16';
    case 'BF16':
      return 'bf16';
    default:
      throw invalid(checkpoint, name, `has dtype ${entry.dtype}; F32, F16 or BF16 is needed`);
  }
}

function invalid(checkpoint: CheckpointFiles, tensor: string, rule: string): NibbleError {
  return new NibbleError({ code: 'file_invalid', file: checkpoint.name, tensor, rule });
}
