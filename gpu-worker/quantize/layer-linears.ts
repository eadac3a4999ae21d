/** LayerLinears: the linears of a decoder layer by name, grouped by the input that they share, in the order in which the layer reaches them. */
import type { Architecture } from '../../core/model/architecture.ts';

export interface NamedLinear {
  /** Its tensors' prefix. */
  name: string;
  rows: number;
  columns: number;
  hasBias: boolean;
}

/** Linears of one input: one Hessian serves them all. With --true-sequential each input is a stage. */
export type LayerInput = readonly NamedLinear[];

export function layerInputs(config: Architecture, layer: number): readonly LayerInput[] {
  const { hidden, intermediate, heads, kvHeads, headDim, bias, tensors } = config;
  const prefix = `${tensors.layers}${layer}.`;
  const linear = (name: string, rows: number, columns: number, hasBias: boolean): NamedLinear => ({
    name: prefix + name,
    rows,
    columns,
    hasBias,
  });
  const attention = (name: string, count: number) => linear(name, count * headDim, hidden, bias.queryKeyValue);
  const inner = (name: string, count: number) => linear(name, count * intermediate, hidden, bias.mlp);
  const { queryKeyValue: qkv, mlp } = tensors;
  return [
    qkv.kind === 'separate'
      ? [attention(qkv.query, heads), attention(qkv.key, kvHeads), attention(qkv.value, kvHeads)]
      : [attention(qkv.name, heads + 2 * kvHeads)],
    [linear(tensors.attentionOutput, hidden, heads * headDim, bias.attentionOutput)],
    mlp.kind === 'gated'
      ? [inner(mlp.gate, 1), inner(mlp.up, 1)]
      : [mlp.kind === 'fused' ? inner(mlp.gateUp, 2) : inner(mlp.up, 1)],
    [linear(mlp.down, hidden, intermediate, bias.mlp)],
  ];
}

/** Why a linear cannot lie in the packed layout and stays plain; null when it can. */
export function unpackable({ rows, columns }: NamedLinear, bits: number): string | null {
  const perWords = bits === 3 ? '32 values in 3 words' : `${32 / bits} values a word`;
  if ((columns * bits) % 32 !== 0) return `its ${columns} inputs do not fill whole words (${perWords})`;
  if ((rows * bits) % 32 !== 0) return `its ${rows} outputs do not fill whole words (${perWords})`;
  return null;
}
