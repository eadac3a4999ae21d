/** RandomModel: a Llama of any size with random f16 weights, in Hugging Face layout. What loads and runs, and says nothing. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeSafetensors } from '../gpu-worker/safetensors-file.ts';

export interface RandomShape {
  hidden: number;
  layers: number;
  intermediate: number;
  heads: number;
  kvHeads: number;
  vocab: number;
  /** 256 when absent. */
  contextTokens?: number;
}

/** Resolves to the weights' size. The same shape and seed give the same bytes. */
export async function writeRandomModel(directory: string, shape: RandomShape, seed = 1): Promise<number> {
  const { hidden, layers, intermediate, heads, kvHeads, vocab } = shape;
  const kv = (hidden / heads) * kvHeads;
  const tensors = [matrix('model.embed_tokens', vocab, hidden), vector('model.norm', hidden)];
  for (let layer = 0; layer < layers; layer++) {
    const at = (name: string) => `model.layers.${layer}.${name}`;
    tensors.push(
      vector(at('input_layernorm'), hidden),
      vector(at('post_attention_layernorm'), hidden),
      matrix(at('self_attn.q_proj'), hidden, hidden),
      matrix(at('self_attn.k_proj'), kv, hidden),
      matrix(at('self_attn.v_proj'), kv, hidden),
      matrix(at('self_attn.o_proj'), hidden, hidden),
      matrix(at('mlp.gate_proj'), intermediate, hidden),
      matrix(at('mlp.up_proj'), intermediate, hidden),
      matrix(at('mlp.down_proj'), hidden, intermediate),
    );
  }
  await mkdir(directory, { recursive: true });
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    vocab_size: vocab,
    max_position_embeddings: shape.contextTokens ?? 256,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    torch_dtype: 'float16',
  };
  await writeFile(join(directory, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
  const next = halves(seed);
  const path = join(directory, 'model.safetensors');
  return writeSafetensors(
    path,
    tensors,
    async ({ shape: [rows = 1, cols = 1] }) => next(rows * cols),
    () => {},
  );
}

const matrix = (name: string, rows: number, cols: number) => ({
  name: `${name}.weight`,
  dtype: 'F16' as const,
  shape: [rows, cols] as readonly number[],
});
const vector = (name: string, length: number) => ({
  name: `${name}.weight`,
  dtype: 'F16' as const,
  shape: [length] as readonly number[],
});

/** Finite f16 of either sign between 2⁻⁸ and 2⁻⁴, from a xorshift generator. */
function halves(seed: number): (count: number) => Uint8Array {
  let state = seed;
  return (count) => {
    const values = new Uint16Array(count);
    for (let i = 0; i < count; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      values[i] = (state & 0x83ff) | ((7 + ((state >>> 16) & 3)) << 10);
    }
    return new Uint8Array(values.buffer);
  };
}
