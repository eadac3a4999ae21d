import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Scorer } from '../../core/engine/scorer.ts';
import { openCheckpoint } from '../../core/formats/checkpoint-index.ts';
import { readJson } from '../../core/formats/file-set.ts';
import { readQuantization } from '../../core/formats/quantization.ts';
import type { Activation, Backend, Linear, LinearWeight } from '../../core/model/backend.ts';
import { loadModelWeights } from '../../core/model/checkpoint.ts';
import { parseModelConfig } from '../../core/model/config.ts';
import { Graph } from '../../core/model/graph.ts';
import { ReferenceBackend } from '../../core/model/reference.ts';
import { Tokenizer } from '../../core/text/tokenizer.ts';
import { openLocalModel } from '../../gpu-worker/store/local.ts';
import { loadWasmBackend } from '../../wasm/node.ts';
import { DEMO_DIRECTORY } from './demo-model.ts';

const TEXT = 'Once upon a time there was a little fox named Milo who lived at the edge of a quiet forest.';

interface Measured {
  label: string;
  /** ‖ŷ − y‖₂ / ‖y‖₂ over the linear's whole output. */
  relativeError: number;
}

/** The backend, with every linear's output compared with the dequantised weights on the same input, in f64. */
function measuring(inner: Backend, found: Promise<Measured>[]): Backend {
  const reference = new ReferenceBackend();
  const twins = new Map<Linear, { label: string; twin: Linear }>();
  const overrides: Partial<Backend> = {
    async loadLinear(weight: LinearWeight, label: string) {
      const linear = await inner.loadLinear(weight, label);
      twins.set(linear, { label, twin: await reference.loadLinear(weight) });
      return linear;
    },
    linears: (x, weights) => weights.map((weight) => overrides.linear!(x, weight)),
    gatedLinear: (f, x, gate, up) => inner.gated(f, overrides.linear!(x, gate), overrides.linear!(x, up)),
    linear(x: Activation, weight: Linear) {
      const y = inner.linear(x, weight);
      const { label, twin } = twins.get(weight)!;
      found.push(
        Promise.all([inner.read(x), inner.read(y)]).then(async ([input, output]) => {
          const given = { rows: x.rows, cols: x.cols, values: input } as Activation;
          const expected = await reference.read(reference.linear(given, twin));
          const norm = (values: Float32Array) => Math.hypot(...values);
          return { label, relativeError: norm(output.map((value, i) => value - expected[i]!)) / norm(expected) };
        }),
      );
      return y;
    },
  };
  return new Proxy(inner, {
    get(target, name) {
      const member = overrides[name as keyof Backend] ?? target[name as keyof Backend];
      return typeof member === 'function' ? member.bind(target) : member;
    },
  });
}

describe.each(['relaxed', 'plain'] as const)('the demo model’s int4 linears on wasm (%s)', (variant) => {
  test('are within 1e-2 of the dequantised weights, each, on the model’s own activations', async () => {
    const files = await openLocalModel(join(DEMO_DIRECTORY, 'gptq-int4'));
    const config = parseModelConfig(await readJson(files, 'config.json', 1e6), null, 'config.json');
    const tokenizer = new Tokenizer(await readJson(files, 'tokenizer.json', 1e7), {});
    const found: Promise<Measured>[] = [];
    const backend = measuring(await loadWasmBackend({ variant }), found);
    const weights = await loadModelWeights(await openCheckpoint(files), {
      config,
      quantization: await readQuantization(files, null),
      backend,
    });
    await files.close();
    const ids = tokenizer.encode(TEXT, 'add');
    await new Scorer(new Graph(config, weights, backend), ids.length).logits(ids, () => {});
    const measured = await Promise.all(found);
    expect(measured).toHaveLength(config.layers * 7 + 1);
    for (const { label, relativeError } of measured) expect([label, relativeError < 1e-2]).toEqual([label, true]);
  });
});
