/** Passes through single layers, for every architecture: what the whole graph computes, and the same on threads as on the reference. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { makeBatch } from '../../../core/engine/batch.ts';
import { PAGE_TOKENS } from '../../../core/engine/engine.ts';
import { loadModelWeights } from '../../../core/model/checkpoint.ts';
import { Graph } from '../../../core/model/graph.ts';
import { ReferenceBackend } from '../../../core/model/reference.ts';
import { HiddenStates } from '../../../gpu-worker/quantize/hidden-states.ts';
import { layerInputs } from '../../../gpu-worker/quantize/layer-linears.ts';
import type { LayerPasses } from '../../../gpu-worker/quantize/layer-passes.ts';
import { openSource } from '../../../gpu-worker/quantize/layer-source.ts';
import { LocalPasses } from '../../../gpu-worker/quantize/local-passes.ts';
import { ReferenceKernels } from '../../../gpu-worker/quantize/reference-kernels.ts';
import { ThreadPasses } from '../../../gpu-worker/quantize/thread-passes.ts';
import { openWasmKernels } from '../../../gpu-worker/quantize/wasm-kernels.ts';

const FIXTURES = join(import.meta.dirname, '../../fixtures/architectures');
const SEQUENCES = [
  [1, 17, 5, 42, 9, 33, 2, 8, 11, 30],
  [3, 3, 21],
  [7, 40, 13, 25, 6],
];
const kernels = await openWasmKernels(2);
afterAll(() => kernels.close());

async function through(passes: LayerPasses, model: string) {
  const source = { model, packed: null };
  const { config, files } = await openSource(source);
  await files.close();
  const hidden = new HiddenStates(
    SEQUENCES.map(({ length }) => length),
    config.hidden,
  );
  await passes.embed(source, SEQUENCES, hidden);
  const hessians: Float32Array[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    hessians.push(...(await passes.hessians(source, layer, layerInputs(config, layer), hidden, () => {})));
    await passes.advance(source, layer, hidden, () => {});
  }
  return { config, hidden, hessians };
}

/** Logits of each sequence's last token from hidden states after the last layer are the graph's own. */
async function logitsOfGraph(model: string): Promise<{ graph: Graph; logits: Float32Array[] }> {
  const { files, ...source } = await openSource({ model, packed: null });
  const backend = new ReferenceBackend();
  const { config } = source;
  const graph = new Graph(config, await loadModelWeights(source.checkpoint, { ...source, backend }), backend);
  const { layers, kvHeads, headDim } = config;
  backend.allocateKv({ layers, kvHeads, headDim, pages: 1, pageTokens: PAGE_TOKENS, dtype: 'f32' });
  const logits: Float32Array[] = [];
  for (const ids of SEQUENCES) {
    const sequence = { ids, numCachedTokens: 0, pageIds: [0], plannedTokens: ids.length };
    logits.push(await graph.forward(makeBatch([{ sequence, count: ids.length }], PAGE_TOKENS, 'ends')));
  }
  await files.close();
  return { graph, logits };
}

test.each(readdirSync(FIXTURES))('%s', async (name) => {
  const model = join(FIXTURES, name);
  const plain = await through(
    new LocalPasses('reference', async () => new ReferenceBackend(), new ReferenceKernels()),
    model,
  );
  const fast = await through(new ThreadPasses(kernels), model);
  const distance = (ours: Float32Array, theirs: Float32Array) =>
    Math.hypot(...ours.map((value, i) => value - theirs[i]!)) / Math.hypot(...theirs);
  // Plain weights in f32 on both: only sums differ.
  expect(distance(fast.hidden.values, plain.hidden.values)).toBeLessThan(1e-4);
  for (const [i, hessian] of fast.hessians.entries()) {
    expect(hessian.length).toBe(plain.hessians[i]!.length);
    expect(distance(hessian, plain.hessians[i]!)).toBeLessThan(1e-4);
    expect(hessian.some((value) => value !== 0)).toBe(true);
  }
  // The graph of one layer less, one by one, is the graph: its logits come from the same hidden states.
  const { graph, logits } = await logitsOfGraph(model);
  const { config } = graph;
  const { files, ...source } = await openSource({ model, packed: null });
  const backend = new ReferenceBackend();
  const weights = await loadModelWeights(source.checkpoint, { ...source, backend });
  await files.close();
  for (const [i, ids] of SEQUENCES.entries()) {
    const sequence = { ids, numCachedTokens: 0, pageIds: [0], plannedTokens: ids.length };
    backend.begin(makeBatch([{ sequence, count: ids.length }], PAGE_TOKENS, 'ends'));
    const rows = backend.write(plain.hidden.of(i), ids.length, config.hidden);
    const { finalNorm, projection, head } = weights;
    const normed =
      finalNorm === null
        ? rows
        : config.norm.kind === 'rms'
          ? backend.rmsNorm(rows, finalNorm.weight, config.norm.eps)
          : backend.layerNorm(rows, finalNorm.weight, finalNorm.bias, config.norm.eps);
    const last = backend.gatherRows(normed, Int32Array.of(ids.length - 1));
    const out = backend.linear(projection === null ? last : backend.linear(last, projection.out), head);
    if (config.logitSoftcap !== null) backend.softcap(out, config.logitSoftcap);
    expect(distance(await backend.read(out), logits[i]!)).toBeLessThan(1e-6);
  }
});
