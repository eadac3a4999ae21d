/** Threads: the same bits on any number of them, and none left when the backend is disposed of. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ensureWasmBuilt } from '../../scripts/build-wasm.ts';
import { WasmBackend } from '../../wasm/backend.ts';
import { instantiateKernels, type KernelVariant } from '../../wasm/kernels.ts';
import { KernelMemory } from '../../wasm/memory.ts';
import { withMemory } from '../../wasm/memory-import.ts';
import { loadWasmBackend } from '../../wasm/node.ts';
import { TASK_ADDRESS, TaskSlot } from '../../wasm/team.ts';
import { ThreadTeam, type WayChoice } from '../../wasm/threads.ts';
import { gaussians } from './inputs.ts';
import { backendOf, kernelsOf, VARIANTS } from './kernel-set.ts';
import { OP_CASES, runInSteps } from './op-cases.ts';
import { RandomLlama } from './random-llama.ts';

const SHAPE = { hidden: 96, layers: 2, ffn: 160, heads: 3, kvHeads: 1, vocab: 77 };
const PROMPT = Array.from({ length: 20 }, (_, i) => (i * 31) % SHAPE.vocab);
/** assembly/pieces.ts */
const RANGE_OF_PART_1 = 9216 + 64;
const bitsOf = (values: Float32Array) => new Uint32Array(values.buffer);

const open = (variant: KernelVariant, threads: number) => loadWasmBackend({ variant, threads, checkThreads: false });

describe.each(VARIANTS)('threads, %s', (variant) => {
  test.each(OP_CASES)('$name: 2 and 3 threads give the bits of one', async (op) => {
    const alone = await runInSteps(op, await backendOf(variant), [1, 15, 17]);
    for (const threads of [2, 3]) {
      const backend = await open(variant, threads);
      expect(backend.threads).toBe(threads);
      const together = await runInSteps(op, backend, [1, 15, 17]);
      await backend.dispose();
      expect(bitsOf(together)).toEqual(bitsOf(alone));
    }
  });

  test('a whole model: prefill and decode, chunked and whole, on one thread and two', async () => {
    const logits = async (threads: number, sizes: number[]) => {
      const backend = await open(variant, threads);
      const model = await RandomLlama.load(backend, SHAPE, PROMPT.length);
      const rows: number[] = [];
      let cached = 0;
      for (const count of sizes) {
        rows.push(...(await backend.read(model.enqueue(PROMPT, cached, count, 'all')!)));
        cached += count;
      }
      await backend.dispose();
      return bitsOf(Float32Array.from(rows));
    };
    const want = await logits(1, [PROMPT.length]);
    expect(want.some((bits) => bits !== want[0])).toBe(true);
    for (const threads of [1, 2])
      for (const sizes of [[20], Array.from({ length: 20 }, () => 1), [17, 1, 2], [3, 17]])
        expect(await logits(threads, sizes)).toEqual(want);
  });
});

describe('a team', () => {
  test.each(VARIANTS)('a part takes what another has left, to the last row, %s', (variant) => {
    const { kernels, memory } = kernelsOf(variant);
    const [rows, stride] = [4 * 101, 8];
    const address = (values: Float32Array) => {
      const at = memory.permanent(values.byteLength, 'test');
      memory.f32(at, values.length).set(values);
      return at;
    };
    const w = address(gaussians(rows * stride, 1));
    const [bias, x, y] = [new Float32Array(rows), gaussians(stride, 2), new Float32Array(rows).fill(-1)].map(address);
    const slot = new TaskSlot(memory.memory, TASK_ADDRESS);
    slot.write([w, bias!, x!, y!, 1, rows, stride, 0]);
    kernels.linear_dense_f32(slot.address, 0, 1);
    const want = memory.f32(y!, rows).slice();
    memory.f32(y!, rows).fill(-1);
    kernels.linear_dense_f32(slot.address, 0, 2);
    // Part 1 has not begun: the half is its own.
    expect([...memory.f32(y!, rows)].indexOf(-1)).toBe(200);
    // It has begun, and does not go on: fours [50, 101) of rows are left.
    memory.i32(RANGE_OF_PART_1, 2).set([50, 101]);
    kernels.linear_dense_f32(slot.address, 0, 2);
    expect(memory.f32(y!, rows)).toEqual(want);
    expect([...memory.i32(RANGE_OF_PART_1, 2)]).toEqual([50, 50]);
  });

  test('a process ends by itself, with threads disposed of or not', () => {
    for (const last of ['', 'await backend.dispose();']) {
      const program = `
        import { loadWasmBackend } from ${JSON.stringify(new URL('../../wasm/node.ts', import.meta.url).href)};
        const backend = await loadWasmBackend({ threads: 2, checkThreads: false });
        console.log(backend.threads); ${last}`;
      const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
        encoding: 'utf8',
        timeout: 60_000,
      });
      expect([status, stdout]).toEqual([0, '2\n']);
    }
  });

  test('gives the same bits where its caller does steps alone', async () => {
    const shape = { hidden: 96, layers: 2, ffn: 160, heads: 12, kvHeads: 6, vocab: 77 };
    const ids = Array.from({ length: 60 }, (_, i) => (i * 31) % shape.vocab);
    const logitsOn = async (backend: WasmBackend) => {
      const model = await RandomLlama.load(backend, shape, ids.length);
      const rows: number[] = [];
      for (let at = 0; at < ids.length; at += at % 9 === 4 ? 5 : 1)
        rows.push(...(await backend.read(model.enqueue(ids, at, at % 9 === 4 ? 5 : 1)!)));
      await backend.dispose();
      return bitsOf(Float32Array.from(rows));
    };
    const module = new WebAssembly.Module(withMemory('shared', readFileSync(ensureWasmBuilt().relaxed)));
    const memory = new KernelMemory(undefined, true);
    const recorded: string[] = [];
    let steps = 0;
    const inTurn: WayChoice = {
      choose: () => (steps++ % 3 === 0 ? 'together' : 'alone'),
      record: (tokens, way, ms) => recorded.push(`${tokens} ${way} ${ms > 0}`),
    };
    const team = await ThreadTeam.start(module, memory, 2, inTurn);
    const got = await logitsOn(new WasmBackend(instantiateKernels(module, memory.memory), team, memory, 'relaxed'));
    expect(got).toEqual(await logitsOn(await backendOf('relaxed')));
    expect(recorded.slice(0, 4)).toEqual(['1 together true', '1 alone true', '1 alone true', '1 together true']);
    expect(recorded).toContain('5 alone true');
  });

  test('more threads than one are an option of the loader', async () => {
    const backend = await loadWasmBackend({ threads: 2 });
    expect(backend.threads).toBe(2);
    await backend.dispose();
  });

  test('memory grows under its threads', async () => {
    const backend = await open('relaxed', 2);
    const small = await RandomLlama.load(backend, SHAPE, 16);
    const before = backend.usedBytes;
    const first = await backend.read(small.enqueue(PROMPT, 0, 5, 'all')!);
    for (let i = 0; i < 4; i++) backend.loadVector(new Float32Array(1 << 20), 'growth');
    expect(backend.usedBytes).toBeGreaterThan(before + (16 << 20));
    const second = await backend.read(small.enqueue(PROMPT, 0, 5, 'all')!);
    expect(bitsOf(second)).toEqual(bitsOf(first));
    await backend.dispose();
  });
});
