/** RandomModel: a Llama of any size with random weights, in Hugging Face layout. What loads and runs, and says nothing. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { parseShape } from '../gpu-worker/bench/shape.ts';
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

export interface RandomLayout {
  /** Of the layers' linears: f16, or symmetric int4 in groups of 128 as GPTQ stores it. */
  linears: 'f16' | 'gptq';
  head: 'tied' | 'own';
  /** model.safetensors, or so many shards and their index. */
  files: number;
}

const PLAIN: RandomLayout = { linears: 'f16', head: 'tied', files: 1 };
const GROUP_SIZE = 128;

interface RandomTensor {
  name: string;
  dtype: 'F16' | 'I32';
  shape: readonly number[];
}

/** Resolves to the weights' size. The same shape, layout and seed give the same bytes. */
export async function writeRandomModel(
  directory: string,
  shape: RandomShape,
  seed = 1,
  layout: RandomLayout = PLAIN,
): Promise<number> {
  await mkdir(directory, { recursive: true });
  await writeJson(join(directory, 'config.json'), configOf(shape, layout));
  const tensors = tensorsOf(shape, layout);
  const bytesOf = randomBytes(seed);
  const write = (path: string, some: readonly RandomTensor[]) => writeSafetensors(path, some, bytesOf, () => {});
  if (layout.files === 1) return write(join(directory, 'model.safetensors'), tensors);
  const perFile = Math.ceil(tensors.length / layout.files);
  const places: Record<string, string> = {};
  let bytes = 0;
  for (let first = 0; first < tensors.length; first += perFile) {
    const some = tensors.slice(first, first + perFile);
    const name = `model-${String(first / perFile + 1).padStart(5, '0')}-of-${String(layout.files).padStart(5, '0')}.safetensors`;
    bytes += await write(join(directory, name), some);
    for (const tensor of some) places[tensor.name] = name;
  }
  await writeJson(join(directory, 'model.safetensors.index.json'), {
    metadata: { total_size: bytes },
    weight_map: places,
  });
  return bytes;
}

function configOf(shape: RandomShape, { linears, head }: RandomLayout): unknown {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: shape.hidden,
    intermediate_size: shape.intermediate,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    vocab_size: shape.vocab,
    max_position_embeddings: shape.contextTokens ?? 256,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: head === 'tied',
    torch_dtype: 'float16',
    ...(linears === 'gptq'
      ? { quantization_config: { quant_method: 'gptq', bits: 4, group_size: GROUP_SIZE, desc_act: false, sym: true } }
      : {}),
  };
}

function tensorsOf(shape: RandomShape, { linears, head }: RandomLayout): RandomTensor[] {
  const { hidden, layers, intermediate, heads, kvHeads, vocab } = shape;
  const kv = (hidden / heads) * kvHeads;
  const linear =
    linears === 'gptq' ? packed : (name: string, out: number, inputs: number) => [matrix(name, out, inputs)];
  const tensors = [matrix('model.embed_tokens', vocab, hidden), vector('model.norm', hidden)];
  if (head === 'own') tensors.push(matrix('lm_head', vocab, hidden));
  for (let layer = 0; layer < layers; layer++) {
    const at = (name: string) => `model.layers.${layer}.${name}`;
    tensors.push(
      vector(at('input_layernorm'), hidden),
      vector(at('post_attention_layernorm'), hidden),
      ...linear(at('self_attn.q_proj'), hidden, hidden),
      ...linear(at('self_attn.k_proj'), kv, hidden),
      ...linear(at('self_attn.v_proj'), kv, hidden),
      ...linear(at('self_attn.o_proj'), hidden, hidden),
      ...linear(at('mlp.gate_proj'), intermediate, hidden),
      ...linear(at('mlp.up_proj'), intermediate, hidden),
      ...linear(at('mlp.down_proj'), hidden, intermediate),
    );
  }
  return tensors;
}

const matrix = (name: string, rows: number, cols: number): RandomTensor => ({
  name: `${name}.weight`,
  dtype: 'F16',
  shape: [rows, cols],
});
const vector = (name: string, length: number): RandomTensor => ({
  name: `${name}.weight`,
  dtype: 'F16',
  shape: [length],
});

function packed(name: string, outFeatures: number, inFeatures: number): RandomTensor[] {
  const groups = Math.ceil(inFeatures / GROUP_SIZE);
  return [
    { name: `${name}.qweight`, dtype: 'I32', shape: [inFeatures / 8, outFeatures] },
    { name: `${name}.qzeros`, dtype: 'I32', shape: [groups, outFeatures / 8] },
    { name: `${name}.scales`, dtype: 'F16', shape: [groups, outFeatures] },
  ];
}

function randomBytes(seed: number): (tensor: RandomTensor) => Promise<Uint8Array> {
  const next = halves(seed);
  let state = seed;
  return async ({ name, dtype, shape }) => {
    const count = shape.reduce((product, size) => product * size, 1);
    if (dtype === 'F16') return next(count);
    const words = new Int32Array(count);
    // Stored less one: zero points of 8.
    if (name.endsWith('qzeros')) words.fill(0x77777777);
    else
      for (let i = 0; i < count; i++) {
        state = xorshift(state);
        words[i] = state;
      }
    return new Uint8Array(words.buffer);
  };
}

function writeJson(path: string, value: unknown): Promise<void> {
  return writeFile(path, `${JSON.stringify(value, null, 2)}\n`);
}

/** Finite f16 of either sign between 2⁻⁸ and 2⁻⁴, from a xorshift generator. */
function halves(seed: number): (count: number) => Uint8Array {
  let state = seed;
  return (count) => {
    const values = new Uint16Array(count);
    for (let i = 0; i < count; i++) {
      state = xorshift(state);
      values[i] = (state & 0x83ff) | ((7 + ((state >>> 16) & 3)) << 10);
    }
    return new Uint8Array(values.buffer);
  };
}

function xorshift(state: number): number {
  const a = state ^ (state << 13);
  const b = a ^ (a >>> 17);
  return b ^ (b << 5);
}

// random-model.ts DIRECTORY --shape hidden,layers,ffn,heads,kvHeads,vocab [--linears f16|gptq] [--head tied|own] [--files 1]
if (process.argv[1] === import.meta.filename) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      shape: { type: 'string', default: '768,12,2048,12,4,32000' },
      linears: { type: 'string', default: PLAIN.linears },
      head: { type: 'string', default: PLAIN.head },
      files: { type: 'string', default: String(PLAIN.files) },
    },
  });
  const { ffn, ...shape } = parseShape(values.shape);
  const layout = {
    linears: values.linears === 'gptq' ? 'gptq' : 'f16',
    head: values.head === 'own' ? 'own' : 'tied',
    files: Number(values.files),
  } as const;
  const bytes = await writeRandomModel(positionals[0]!, { ...shape, intermediate: ffn }, 1, layout);
  console.log(`${positionals[0]}: ${bytes} bytes`);
}
