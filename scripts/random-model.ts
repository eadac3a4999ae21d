/** Random model: a Llama of any shape in GPTQ's layout on disk: random int4 weights, f16 embedding and head, a byte-level tokenizer. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { f32ToF16 } from '../core/formats/half.ts';
import { writeSafetensors } from '../gpu-worker/safetensors-file.ts';

export interface RandomModelOptions {
  /** hidden,layers,ffn,heads,kvHeads,vocab */
  shape: readonly number[];
  groupSize: number;
  head: 'tied' | 'own';
  contextTokens: number;
}

type Tensor = { name: string; dtype: 'I32' | 'F16'; shape: readonly [number, number] | readonly [number] };

/** Writes config.json, tokenizer.json, tokenizer_config.json and model.safetensors. Returns the number of parameters. */
export async function makeRandomModel(directory: string, options: RandomModelOptions): Promise<number> {
  const { groupSize, head, contextTokens } = options;
  const [hidden, layers, ffn, heads, kvHeads, vocab] = options.shape as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  await mkdir(directory, { recursive: true });
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    bos_token_id: 0,
    eos_token_id: 1,
    hidden_act: 'silu',
    hidden_size: hidden,
    intermediate_size: ffn,
    max_position_embeddings: contextTokens,
    num_attention_heads: heads,
    num_hidden_layers: layers,
    num_key_value_heads: kvHeads,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: head === 'tied',
    torch_dtype: 'float16',
    vocab_size: vocab,
    quantization_config: {
      quant_method: 'gptq',
      bits: 4,
      group_size: groupSize,
      desc_act: false,
      sym: true,
      checkpoint_format: 'gptq',
    },
  };
  await writeFile(join(directory, 'config.json'), JSON.stringify(config, null, 2));
  await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(tokenizerOf(vocab)));
  await writeFile(
    join(directory, 'tokenizer_config.json'),
    JSON.stringify({ bos_token: '<|bos|>', eos_token: '<|end|>' }),
  );

  const tensors: Tensor[] = [
    { name: 'model.embed_tokens.weight', dtype: 'F16', shape: [vocab, hidden] },
    { name: 'model.norm.weight', dtype: 'F16', shape: [hidden] },
  ];
  if (head === 'own') tensors.push({ name: 'lm_head.weight', dtype: 'F16', shape: [vocab, hidden] });
  let parameters = (head === 'own' ? 2 : 1) * vocab * hidden + hidden;
  const kvWidth = (hidden / heads) * kvHeads;
  for (let layer = 0; layer < layers; layer++) {
    const prefix = `model.layers.${layer}.`;
    for (const norm of ['input_layernorm', 'post_attention_layernorm'])
      tensors.push({ name: `${prefix}${norm}.weight`, dtype: 'F16', shape: [hidden] });
    const linears: [string, number, number][] = [
      ['self_attn.q_proj', hidden, hidden],
      ['self_attn.k_proj', hidden, kvWidth],
      ['self_attn.v_proj', hidden, kvWidth],
      ['self_attn.o_proj', hidden, hidden],
      ['mlp.gate_proj', hidden, ffn],
      ['mlp.up_proj', hidden, ffn],
      ['mlp.down_proj', ffn, hidden],
    ];
    for (const [name, inFeatures, outFeatures] of linears) {
      const groups = Math.ceil(inFeatures / groupSize);
      tensors.push(
        { name: `${prefix}${name}.qweight`, dtype: 'I32', shape: [inFeatures / 8, outFeatures] },
        { name: `${prefix}${name}.qzeros`, dtype: 'I32', shape: [groups, outFeatures / 8] },
        { name: `${prefix}${name}.scales`, dtype: 'F16', shape: [groups, outFeatures] },
        { name: `${prefix}${name}.g_idx`, dtype: 'I32', shape: [inFeatures] },
      );
      parameters += inFeatures * outFeatures;
    }
    parameters += 2 * hidden;
  }
  const random = xorshift(1);
  const bytesOf = async (tensor: Tensor) => randomBytes(tensor, { random, groupSize, hidden });
  await writeSafetensors(join(directory, 'model.safetensors'), tensors, bytesOf, () => {});
  return parameters;
}

/** Values of a size that keeps activations near 1 through all layers. */
function randomBytes(
  { name, dtype, shape }: Tensor,
  { random, groupSize, hidden }: { random: () => number; groupSize: number; hidden: number },
): Uint8Array {
  const count = shape.reduce((product, size) => product * size, 1);
  if (dtype === 'F16') {
    const halves = new Uint16Array(count);
    // Integers of −8..7 have a deviation of 4.6.
    const inFeatures = name.includes('down_proj') ? (shape[0] as number) * groupSize : hidden;
    const value = name.endsWith('scales')
      ? () => 1 / (4.6 * Math.sqrt(inFeatures))
      : name.endsWith('norm.weight')
        ? () => 1
        : () => (random() / 2 ** 31 - 1) * Math.sqrt(3 / hidden);
    for (let i = 0; i < count; i++) halves[i] = f32ToF16(value());
    return new Uint8Array(halves.buffer);
  }
  const words = new Int32Array(count);
  if (name.endsWith('qweight')) for (let i = 0; i < count; i++) words[i] = random();
  // Stored less one: zero points of 8.
  else if (name.endsWith('qzeros')) words.fill(0x77777777);
  else for (let i = 0; i < count; i++) words[i] = Math.floor(i / groupSize);
  return new Uint8Array(words.buffer);
}

/** GPT-2's characters for bytes, then merges of what is there, pair by pair, until the vocabulary is full. */
function tokenizerOf(vocab: number): unknown {
  const printable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let next = 256;
  const characters = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
  const special = ['<|bos|>', '<|end|>'];
  const pieces = [...special, ...characters];
  const known = new Set(pieces);
  const merges: [string, string][] = [];
  const random = xorshift(2);
  const words = pieces.slice(special.length).filter((piece) => /^[a-zĠ]$/.test(piece));
  while (pieces.length < vocab) {
    const pick = () => words[random() % words.length]!;
    const pair: [string, string] = [pick(), pick()];
    const piece = pair.join('');
    if (known.has(piece) || piece.length > 8) continue;
    known.add(piece);
    pieces.push(piece);
    words.push(piece);
    merges.push(pair);
  }
  return {
    version: '1.0',
    added_tokens: special.map((content, id) => ({
      ...{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true },
    })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])), merges },
  };
}

/** Marsaglia's xorshift32: 32 random bits, unsigned. */
function xorshift(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      shape: { type: 'string', default: '768,12,2048,12,4,32000' },
      'group-size': { type: 'string', default: '64' },
      head: { type: 'string', default: 'tied' },
      context: { type: 'string', default: '2048' },
    },
  });
  const [directory] = positionals;
  if (directory === undefined)
    throw new Error('usage: random-model.ts DIRECTORY [--shape …] [--group-size 64] [--head tied|own]');
  const parameters = await makeRandomModel(directory, {
    shape: values.shape.split(',').map(Number),
    groupSize: Number(values['group-size']),
    head: values.head === 'own' ? 'own' : 'tied',
    contextTokens: Number(values.context),
  });
  console.log(`${directory}: ${parameters} parameters`);
}
