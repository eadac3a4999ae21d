/** What cannot be run is refused by name, what does not fit by its numbers, and memory grows until its limit. */
import { describe, expect, test } from 'vitest';
import { failureOf } from '../../core/errors.ts';
import type { GptqWeight } from '../../core/model/backend.ts';
import { createWasmBackend } from '../../wasm/backend.ts';
import { KernelMemory } from '../../wasm/memory.ts';
import { expectNode, hasRelaxedSimd, loadWasmBackend } from '../../wasm/node.ts';
import { bnb4Of, denseOf, gaussians, gptqOf, int8Of, place, runLinear, tokensBatch } from './inputs.ts';
import { backendOf } from './kernel-set.ts';
import { dequantize, linear, relativeError } from './oracle.ts';

async function failure(action: () => unknown) {
  try {
    await action();
  } catch (error) {
    return failureOf(error);
  }
  throw new Error('nothing was thrown');
}

const OPTIONS = { heads: 1, scale: 1, window: null, softcap: null, alibiSlopes: null };

const whole = () => gptqOf({ outFeatures: 16, inFeatures: 64, groupSize: 32, sym: true });

describe('weights', () => {
  const short: [string, Partial<GptqWeight>][] = [
    ['qweight', { qweight: new Int32Array(127) }],
    ['qzeros', { qzeros: new Int32Array(5) }],
    ['scales', { scales: new Uint16Array(31) }],
    ['bias', { bias: new Float32Array(15) }],
  ];
  test.each(short)('%s of the wrong length is an impossible state, with its numbers', async (what, change) => {
    const backend = await backendOf('plain');
    expect(await failure(() => backend.loadLinear({ ...whole(), ...change }, 'layers.0.q_proj'))).toMatchObject({
      code: 'internal',
      reason: expect.stringMatching(new RegExp(`layers.0.q_proj: ${what} has length \\d+, its shape needs \\d+`)),
    });
  });

  test('groups that do not exist are an impossible state', async () => {
    const backend = await backendOf('plain');
    for (const change of [{ gIdx: new Int32Array(64).fill(2) }, { gIdx: new Int32Array(63) }, { groupSize: 0 }])
      expect(await failure(() => backend.loadLinear({ ...whole(), ...change }, 'q_proj'))).toMatchObject({
        code: 'internal',
        reason: expect.stringContaining('q_proj'),
      });
  });

  test('bnb4 and int8 tensors that do not fit their shape', async () => {
    const backend = await backendOf('plain');
    const bnb4 = bnb4Of(gaussians(8 * 64, 1), 64, { quantType: 'nf4', blockSize: 64 });
    const int8 = int8Of(gaussians(8 * 64, 1), 64, 6);
    for (const weight of [
      { ...bnb4, packed: new Uint8Array(255) },
      { ...bnb4, table: new Float32Array(15) },
      { ...bnb4, absmax: { kind: 'plain', values: new Float32Array(7) } } as const,
      { ...bnb4, blockSize: 0 },
      { ...int8, values: new Int8Array(511) },
      { ...int8, rowAbsmax: new Float32Array(7) },
    ])
      expect(await failure(() => backend.loadLinear(weight, 'q_proj'))).toMatchObject({ code: 'internal' });
    const table = bnb4.table.with(3, Number.NaN);
    expect(await failure(() => backend.loadLinear({ ...bnb4, table }, 'q_proj'))).toMatchObject({
      code: 'file_invalid',
      file: 'q_proj',
    });
  });

  test('more int8 products than one exact sum holds are refused by number', async () => {
    const weight = int8Of(new Float32Array(131_073).fill(1), 131_073, 6);
    expect(await failure(async () => (await backendOf('plain')).loadLinear(weight, 'q_proj'))).toMatchObject({
      code: 'model_unsupported',
      file: 'q_proj',
      option: 'in_features=131073',
    });
  });

  test('dense bytes of the wrong length', async () => {
    const backend = await backendOf('plain');
    const weight = { ...denseOf(new Float32Array(12), 4), outFeatures: 4 };
    expect(await failure(() => backend.loadLinear(weight, 'head'))).toEqual({
      code: 'internal',
      reason: 'head: f32 bytes has length 48, its shape needs 64',
    });
  });

  test('f16 infinities are refused as a fault of the file', async () => {
    const backend = await backendOf('plain');
    const weight = whole();
    weight.scales[3] = 0x7c00;
    expect(await failure(() => backend.loadLinear(weight, 'q_proj'))).toMatchObject({
      code: 'file_invalid',
      file: 'q_proj',
      rule: 'f16 value 3 is not finite',
    });
  });

  test('a table of a layout that no checkpoint has for one cannot embed', async () => {
    const backend = await backendOf('plain');
    const table = await backend.loadLinear(int8Of(gaussians(8 * 64, 1), 64, 6), 'embed');
    backend.begin(tokensBatch(1));
    expect(await failure(() => backend.embed(table, Int32Array.of(0), 1))).toMatchObject({
      code: 'model_unsupported',
      option: 'int8',
    });
  });
});

describe('impossible states', () => {
  test('operands of the wrong shape, an earlier step or another backend', async () => {
    const backend = await backendOf('plain');
    const other = await backendOf('plain');
    const weight = await backend.loadLinear(whole(), 'q_proj');
    backend.begin(tokensBatch(2));
    other.begin(tokensBatch(2));
    const narrow = await place(backend, new Float32Array(2 * 8), 8);
    const foreign = await place(other, new Float32Array(2 * 64), 64);
    const fitting = await place(backend, new Float32Array(2 * 64), 64);
    expect(await failure(() => backend.linear(narrow, weight))).toMatchObject({
      reason: 'wasm backend: linear: x has 8 columns, the weight 64',
    });
    expect(await failure(() => backend.gated('silu', narrow, fitting))).toMatchObject({ code: 'internal' });
    expect(await failure(() => backend.linear(foreign, weight))).toMatchObject({ code: 'internal' });
    expect(await failure(() => backend.add(narrow, fitting))).toMatchObject({ code: 'internal' });
    expect(await failure(() => backend.gatherRows(narrow, Int32Array.of(2)))).toMatchObject({
      reason: 'wasm backend: gatherRows: row 2 of 2',
    });
    expect(await failure(() => backend.columns(narrow, [{ begin: 5, count: 4 }]))).toMatchObject({
      reason: 'wasm backend: columns: 4 from 5 of a row of 8',
    });
    expect(await failure(() => backend.reshape(narrow, 3, 5))).toMatchObject({
      reason: 'wasm backend: reshape: [2, 8] as [3, 5]',
    });
    const norm = backend.loadVector(new Float32Array(8), 'norm');
    const long = backend.loadVector(new Float32Array(9), 'norm');
    expect(await failure(() => backend.layerNorm(narrow, norm, long, 1e-5))).toMatchObject({ code: 'internal' });
    backend.begin(tokensBatch(2));
    expect(await failure(() => backend.linear(fitting, weight))).toMatchObject({ code: 'internal' });
    expect(await failure(() => backend.attention(0, fitting, OPTIONS))).toMatchObject({
      reason: 'wasm backend: no key/value pages for layer 0',
    });
  });

  test('tokens, slots, sequences and pages outside their tables', async () => {
    const backend = await backendOf('plain');
    backend.allocateKv({ layers: 1, kvHeads: 1, headDim: 4, pages: 2, pageTokens: 4, dtype: 'f32' });
    const batch = tokensBatch(1);
    const table = await backend.loadLinear(denseOf(new Float32Array(4), 4), 'table');
    backend.begin(batch);
    expect(await failure(() => backend.embed(table, Int32Array.of(1), 1))).toMatchObject({
      reason: 'wasm backend: embed: row 1 of a table of 1',
    });
    for (const change of [
      { slots: Int32Array.of(8) },
      { positions: Int32Array.of(4) },
      { positions: Int32Array.of(-1) },
      { sequenceOf: Int32Array.of(1) },
      { pageTables: Int32Array.of(2) },
      { slots: Int32Array.of(0, 0) },
    ])
      expect(await failure(() => backend.begin({ ...batch, ...change }))).toMatchObject({ code: 'internal' });
  });

  test('attention options that mean nothing', async () => {
    const backend = await backendOf('plain');
    backend.allocateKv({ layers: 1, kvHeads: 1, headDim: 4, pages: 1, pageTokens: 4, dtype: 'f32' });
    backend.begin(tokensBatch(1));
    const q = await place(backend, new Float32Array(4), 4);
    for (const change of [{ window: 0 }, { softcap: 0 }, { alibiSlopes: new Float32Array(2) }])
      expect(await failure(() => backend.attention(0, q, { ...OPTIONS, ...change }))).toMatchObject({
        code: 'internal',
      });
  });

  test('pages allocated twice or after a step', async () => {
    const shape = { layers: 1, kvHeads: 1, headDim: 4, pages: 2, pageTokens: 4, dtype: 'f32' as const };
    const backend = await backendOf('plain');
    backend.allocateKv(shape);
    expect(await failure(() => backend.allocateKv(shape))).toMatchObject({ code: 'internal' });
    const begun = await backendOf('plain');
    begun.begin(tokensBatch(1));
    expect(await failure(() => begun.allocateKv(shape))).toMatchObject({ code: 'internal' });
  });

  test('a module that is not a kernel set', async () => {
    const empty = new WebAssembly.Module(new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]));
    expect(await failure(() => createWasmBackend(empty, 'plain'))).toMatchObject({
      reason: 'the WebAssembly module is not a Nibble kernel set',
    });
  });

  test('a Node whose relaxed SIMD is wrong', async () => {
    expect(hasRelaxedSimd()).toBe(true);
    expect(await failure(() => expectNode('20.19.0'))).toMatchObject({
      code: 'model_unsupported',
      option: 'Node 20.19.0',
    });
  });
});

describe('memory', () => {
  test('grows while many tensors load, and the first are still right afterwards', async () => {
    const backend = await backendOf('relaxed');
    const weights = Array.from({ length: 60 }, (_, seed) =>
      gptqOf({ outFeatures: 256, inFeatures: 512, groupSize: 64, sym: seed % 2 === 0, seed }),
    );
    const loaded = [];
    for (const weight of weights) loaded.push(await backend.loadLinear(weight, 'weight'));
    expect(backend.usedBytes).toBeGreaterThan(60 * 65536);
    const x = gaussians(512, 1);
    backend.begin(tokensBatch(1));
    const placed = await place(backend, x, 512);
    for (const index of [0, 1, 30, 59]) {
      const y = await backend.read(backend.linear(placed, loaded[index]!));
      const want = linear(x, dequantize(weights[index]!), null, 512);
      // Int8 activations: see linear-gptq.test.ts.
      expect(relativeError(y, want)).toBeLessThan(1e-2);
    }
  });

  test('steps take the same memory again, however many follow', async () => {
    const backend = await backendOf('relaxed');
    const linear = await backend.loadLinear(whole(), 'weight');
    const table = await backend.loadLinear(denseOf(gaussians(64 * 64, 1), 64), 'table');
    const used = Array.from({ length: 5 }, () => {
      backend.begin(tokensBatch(64));
      backend.linear(
        backend.embed(
          table,
          Int32Array.from({ length: 64 }, (_, i) => i),
          1,
        ),
        linear,
      );
      return backend.usedBytes;
    });
    expect(new Set(used).size).toBe(1);
  });

  test('a weight loaded in mid-step leaves its activations alone and starts from zeros', () => {
    const memory = new KernelMemory();
    const step = memory.step(64);
    memory.u8(step, 64).fill(7);
    const weight = memory.permanent(64, 'weight');
    expect(weight).toBeGreaterThan(step);
    memory.reset();
    memory.u8(memory.step(128), 128).fill(9);
    memory.reset();
    expect([...memory.u8(memory.permanent(128, 'another'), 128)].every((byte) => byte === 0)).toBe(true);
  });

  test('its end is named: by tensor when a model is too large, by step when a batch is', async () => {
    const backend = await loadWasmBackend({ variant: 'plain', maxBytes: 4 * 65536 });
    const large = gptqOf({ outFeatures: 1024, inFeatures: 1024, groupSize: 128, sym: true });
    expect(await failure(() => backend.loadLinear(large, 'layers.7.up_proj'))).toEqual({
      code: 'model_unsupported',
      file: 'layers.7.up_proj',
      option: 'memory',
      reason: 'needs 524288 bytes beside 65600; the wasm backend has 262144',
    });
    const table = await backend.loadLinear(denseOf(new Float32Array(1024), 1024), 'table');
    backend.begin(tokensBatch(64));
    expect(await failure(() => backend.embed(table, new Int32Array(64), 1))).toMatchObject({
      code: 'internal',
      reason: expect.stringContaining('use fewer tokens a step'),
    });
  });

  test('a disposed backend takes no call', async () => {
    const backend = await backendOf('plain');
    await runLinear(backend, whole(), gaussians(64, 1));
    await backend.dispose();
    expect(
      await failure(() => backend.embed({ outFeatures: 1, inFeatures: 1, bytes: 0 }, Int32Array.of(0), 1)),
    ).toMatchObject({
      code: 'internal',
    });
  });
});
