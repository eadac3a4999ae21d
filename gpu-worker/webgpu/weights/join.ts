/** Join: weights of one input laid out as one on the device, so that one dispatch multiplies them all. */
import type { Params } from '../gpu.ts';
import type { GpuLinear, WeightPart } from './gpu-linear.ts';
import type { Loading } from './loading.ts';

/** What linear_params.wgsl has places for. */
const MOST_WEIGHTS = 3;

/** Several weights' rows, one after another. */
export interface JoinedLinear extends GpuLinear {
  /** outFeatures of each */
  readonly widths: readonly number[];
}

/**
 * Gives null, and leaves the weights as they are, when their kinds, formats, inputs or numbers of rows do not go together, or their kernel
 * would bind more than `mostBuffers`. Otherwise their own buffers are gone: at most one set of weights is on the device twice, and only until
 * this resolves.
 */
export async function joinedLinear(
  loading: Loading,
  weights: readonly GpuLinear[],
  mostBuffers: number,
): Promise<JoinedLinear | null> {
  const [first, ...others] = weights;
  if (first === undefined || others.length === 0 || weights.length > MOST_WEIGHTS) return null;
  if (first.joins === null || !others.every((other) => formOf(other) === formOf(first))) return null;
  if (others.some(({ input }) => channelsOf(input) !== channelsOf(first.input))) return null;
  // Rows go by quads, and each weight begins a new one.
  if (weights.some(({ outFeatures, parts }) => outFeatures % 4 !== 0 || parts.length !== 1)) return null;
  if (numBuffers(first, weights.length) > mostBuffers) return null;

  const widths = weights.map(({ outFeatures }) => outFeatures);
  const rows = widths.reduce((sum, width) => sum + width, 0);
  const sizes = first.joins.appended.map((_, i) =>
    weights.reduce((sum, { joins }) => sum + joins!.appended[i]!.bytes, 0),
  );
  if (loading.parts(rows, Math.max(...sizes) / rows).length !== 1) return null;

  const own = weights.map(({ parts }) => parts[0]!);
  const buffers = [...own[0]!.buffers];
  for (const [i, { buffer }] of first.joins.appended.entries())
    buffers[buffer] = await appended(
      loading,
      weights.map(({ joins, parts }) => ({ from: parts[0]!.buffers[buffer]!, bytes: joins!.appended[i]!.bytes })),
    );
  const rowFactors =
    own[0]!.rowFactors === null
      ? null
      : await appended(
          loading,
          own.map(({ rowFactors, rows }) => ({ from: rowFactors!, bytes: 8 * rows })),
        );
  const bias =
    first.bias === null
      ? null
      : await appended(
          loading,
          weights.map(({ bias, outFeatures }) => ({ from: bias!, bytes: 4 * outFeatures })),
        );
  await loading.finish();
  for (const [at, { parts, bias: ownBias }] of weights.entries()) {
    // What is not appended is shared: the first weight's stays.
    const kept = new Set(buffers);
    for (const buffer of [...parts[0]!.buffers, parts[0]!.rowFactors, ownBias])
      if (buffer !== null && !(at === 0 && kept.has(buffer))) buffer.destroy();
  }
  const part: WeightPart = { first: 0, rows, buffers, rowFactors, params: paramsOf(weights, own) };
  return { ...first, outFeatures: rows, bytes: loading.bytes, parts: [part], bias, widths };
}

/** That the kernel of so many joined weights binds, at most: linear_x.wgsl, the format's own, linear_output.wgsl. */
function numBuffers({ input, parts: [part], bias }: GpuLinear, count: number): number {
  const inputs = input.kind === 'int8' && input.threshold > 0 ? 4 : 2;
  return inputs + (part!.rowFactors === null ? 0 : 1) + part!.buffers.length + count + (bias === null ? 0 : 1);
}

/** Everything that must be equal, but the input's order. */
function formOf({ kind, inFeatures, chunks, defines, halves, joins, bias, parts }: GpuLinear): string {
  const { groups, groupChunks } = parts[0]!.params;
  const isPrepared = parts[0]!.rowFactors !== null;
  return JSON.stringify([
    kind,
    inFeatures,
    chunks,
    defines,
    halves,
    joins?.key,
    bias === null,
    groups,
    groupChunks,
    isPrepared,
  ]);
}

function channelsOf(input: GpuLinear['input']): unknown {
  return input.kind === 'channels' ? input.channels : input.kind === 'int8' ? input.threshold : input.kind;
}

/** Where each weight's rows end; and where its nested blocks begin, counted as if its rows began at 0. */
function paramsOf(weights: readonly GpuLinear[], parts: readonly WeightPart[]): Params {
  const [first, second, third] = weights as [GpuLinear, GpuLinear, GpuLinear | undefined];
  const end0 = first.outFeatures;
  const end1 = end0 + second.outFeatures;
  const params = { ...parts[0]!.params, end0, end1 };
  if (first.kind !== 'bnb4') return params;
  const { groups, nestedBlock } = parts[0]!.params as { groups: number; nestedBlock: number };
  const outer = (weight: GpuLinear) => (weight.joins!.appended[2]?.bytes ?? 0) / 4;
  return {
    ...params,
    firstBlock1: outer(first) * nestedBlock - end0 * groups,
    nestedOffset1: parts[1]!.params.nestedOffset!,
    firstBlock2: third === undefined ? 0 : (outer(first) + outer(second)) * nestedBlock - end1 * groups,
    nestedOffset2: parts[2]?.params.nestedOffset ?? 0,
  };
}

async function appended(loading: Loading, sources: readonly { from: GPUBuffer; bytes: number }[]): Promise<GPUBuffer> {
  const buffer = await loading.permanent(sources.reduce((sum, { bytes }) => sum + bytes, 0));
  let at = 0;
  for (const { from, bytes } of sources) {
    loading.gpu.copy(from, 0, buffer, at, bytes);
    at += bytes;
  }
  return buffer;
}
