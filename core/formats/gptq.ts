/** GPTQ: a linear's packed weight from a checkpoint, its tensors checked against each other. */
import { NibbleError } from '../errors.ts';
import type { GptqWeight } from '../model/backend.ts';
import type { CheckpointFiles } from './checkpoint-index.ts';
import type { GptqConfig } from './gptq-config.ts';
import { field } from './gptq-packing.ts';
import { bf16ToF32Array, f16ToF32Array, f32ToF16Array } from './half.ts';
import type { Dtype, TensorEntry } from './safetensors-header.ts';

export { type GptqConfig, isConverted, readQuantizationConfig } from './gptq-config.ts';
export { dequantizeGptq, type GptqIntegers, packGptq, unpackGptq } from './gptq-packing.ts';

/**
 * Reads prefix.qweight [in·bits/32, out] i32, .qzeros [groups, out·bits/32] i32, .scales [groups, out] and, where present,
 * .g_idx [in] i32 and .bias [out]. Throws `file_invalid` with the tensor and the rule it breaks.
 */
export async function readGptqWeight(
  checkpoint: CheckpointFiles,
  prefix: string,
  config: GptqConfig,
): Promise<GptqWeight> {
  const { bits } = config;
  const tensors = new TensorReader(checkpoint, prefix);
  const packed = tensors.entry('qweight', ['I32']);
  const [words, outFeatures] = tensors.shape2(packed);
  if ((words * 32) % bits !== 0 || (outFeatures * bits) % 32 !== 0)
    throw tensors.invalid('qweight', `[${words}, ${outFeatures}] i32 does not hold whole rows of ${bits}-bit values`);
  const inFeatures = (words * 32) / bits;
  if (inFeatures === 0 || outFeatures === 0) throw tensors.invalid('qweight', `[${words}, ${outFeatures}] is empty`);
  const groupSize = Math.min(config.groupSize ?? inFeatures, inFeatures);
  const groups = Math.ceil(inFeatures / groupSize);

  const qweight = await tensors.int32('qweight', [words, outFeatures]);
  const qzeros = await tensors.int32('qzeros', [groups, (outFeatures * bits) / 32]);
  const scales = await tensors.half('scales', [groups, outFeatures]);
  const gIdx = checkpoint.has(`${prefix}.g_idx`) ? await tensors.int32('g_idx', [inFeatures]) : null;
  const bias = checkpoint.has(`${prefix}.bias`) ? await tensors.float('bias', [outFeatures]) : null;
  const weight: GptqWeight = {
    kind: 'gptq',
    outFeatures,
    inFeatures,
    bits,
    groupSize,
    qweight,
    qzeros,
    zeroOffset: config.zeroOffset,
    scales,
    gIdx: gIdx === null ? null : checkGroups(gIdx, groupSize, groups, config, tensors),
    bias,
  };
  return config.symmetric ? repairSwappedZeros(weight) : weight;
}

/** null when every channel is in group k ÷ groupSize. */
function checkGroups(
  gIdx: Int32Array,
  groupSize: number,
  groups: number,
  config: GptqConfig,
  tensors: TensorReader,
): Int32Array | null {
  const outside = gIdx.findIndex((group) => group < 0 || group >= groups);
  if (outside >= 0)
    throw tensors.invalid('g_idx', `puts channel ${outside} into group ${gIdx[outside]}; there are ${groups}`);
  if (gIdx.every((group, k) => group === Math.floor(k / groupSize))) return null;
  // Writers without act-order leave zeros here; text-generation-inference takes them for "no g_idx" as well.
  if (!config.actOrder && gIdx.every((group) => group === 0)) return null;
  return gIdx;
}

/** What AutoGPTQ and GPTQModel add to and subtract from a triple of 3-bit words to change formats: the first and last are swapped. */
const SWAPPED_3_BIT_ONES = [0x24924924, 0x92492492, 0x49249249];

/**
 * 3-bit "gptq" files that GPTQModel converted from "gptq_v2" have zeros only its own wrong constants undo. A symmetric weight's zeros
 * must all be 4, so there the mistake is seen and undone; the result has zeroOffset 0.
 */
function repairSwappedZeros(weight: GptqWeight): GptqWeight {
  if (weight.bits !== 3 || weight.zeroOffset !== 1) return weight;
  const allAre = (zeros: Int32Array, stored: number) => {
    for (let i = 0; i < (zeros.length * 32) / 3; i++) if (field(zeros, 0, 1, i, 3) !== stored) return false;
    return true;
  };
  if (allAre(weight.qzeros, 3)) return weight;
  const repaired = weight.qzeros.map((stored, i) => stored + SWAPPED_3_BIT_ONES[i % 3]!);
  return allAre(repaired, 4) ? { ...weight, qzeros: repaired, zeroOffset: 0 } : weight;
}

/** The tensors of one linear, each read only after its dtype and shape are right. */
class TensorReader {
  readonly #checkpoint: CheckpointFiles;
  readonly #prefix: string;

  constructor(checkpoint: CheckpointFiles, prefix: string) {
    this.#checkpoint = checkpoint;
    this.#prefix = prefix;
  }

  invalid(part: string, rule: string): NibbleError {
    return new NibbleError({
      code: 'file_invalid',
      file: this.#checkpoint.name,
      tensor: `${this.#prefix}.${part}`,
      rule,
    });
  }

  entry(part: string, dtypes: Dtype[]): TensorEntry {
    const entry = this.#checkpoint.tensors.get(`${this.#prefix}.${part}`);
    if (entry === undefined)
      throw this.invalid(
        part,
        'is missing: the config says gptq; quantize the model first or list the module in modules_to_not_convert',
      );
    if (!dtypes.includes(entry.dtype))
      throw this.invalid(part, `has dtype ${entry.dtype} instead of ${dtypes.join(' or ')}`);
    return entry;
  }

  shape2(entry: TensorEntry): [number, number] {
    const [rows, cols] = entry.shape;
    if (entry.shape.length !== 2 || rows === undefined || cols === undefined)
      throw this.invalid('qweight', `has ${entry.shape.length} dimensions instead of 2`);
    return [rows, cols];
  }

  async int32(part: string, shape: number[]): Promise<Int32Array> {
    return new Int32Array(await this.#bytes(this.#shaped(part, ['I32'], shape)));
  }

  /** f16 bit patterns. Scales in f32 or bf16 are rounded, as text-generation-inference rounds them to the model's dtype. */
  async half(part: string, shape: number[]): Promise<Uint16Array> {
    const entry = this.#shaped(part, ['F16', 'BF16', 'F32'], shape);
    if (entry.dtype === 'F16') return new Uint16Array(await this.#bytes(entry));
    const halves = f32ToF16Array(await this.float(part, shape));
    if (halves.some((half) => (half & 0x7c00) === 0x7c00))
      throw this.invalid(part, `has ${entry.dtype} values beyond f16`);
    return halves;
  }

  async float(part: string, shape: number[]): Promise<Float32Array> {
    const entry = this.#shaped(part, ['F16', 'BF16', 'F32'], shape);
    const bytes = await this.#bytes(entry);
    if (entry.dtype === 'F32') return new Float32Array(bytes);
    return (entry.dtype === 'F16' ? f16ToF32Array : bf16ToF32Array)(new Uint16Array(bytes));
  }

  #shaped(part: string, dtypes: Dtype[], shape: number[]): TensorEntry {
    const entry = this.entry(part, dtypes);
    if (entry.shape.length !== shape.length || entry.shape.some((size, i) => size !== shape[i]))
      throw this.invalid(
        part,
        `has shape [${entry.shape.join(', ')}]; qweight, bits and group_size ask for [${shape.join(', ')}]`,
      );
    return entry;
  }

  /** The tensor's bytes in a buffer of their own, aligned for any element; a source's views may start anywhere. */
  async #bytes(entry: TensorEntry): Promise<ArrayBuffer> {
    const bytes = await this.#checkpoint.read(entry.name);
    const { buffer, byteOffset, byteLength } = bytes;
    if (buffer instanceof ArrayBuffer && byteOffset === 0 && byteLength === buffer.byteLength) return buffer;
    return bytes.slice().buffer as ArrayBuffer;
  }
}
