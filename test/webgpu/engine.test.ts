/** The engine on WebGPU: many sequences with preemption, and a device that is lost in mid-answer. */
import { describe, expect, test } from 'vitest';
import { Engine } from '../../core/engine/engine.ts';
import type { Backend } from '../../core/model/backend.ts';
import type { Graph } from '../../core/model/graph.ts';
import type { Frame, Job } from '../../core/protocol.ts';
import type { Tokenizer } from '../../core/text/tokenizer.ts';
import type { WebGpuBackend } from '../../gpu-worker/webgpu/backend.ts';
import { Worker } from '../../gpu-worker/worker.ts';
import { loadDemoOn } from '../gpu-worker/demo-model.ts';
import { backendOn, openBackend, openGpu } from './gpu-under-test.ts';

const job = (id: string, prompt: readonly number[], maxNewTokens: number, temperature: number): Job => ({
  id,
  model: 'demo',
  input: { kind: 'ids', ids: [...prompt] },
  sampling: { temperature, topK: 0, topP: 0.95, seed: prompt[0]! },
  maxNewTokens,
  truncatePromptTokens: null,
  stop: [],
  stopText: 'drop',
  eos: 'ignore',
  topLogprobs: 0,
  promptTokenLimit: 512,
});

/** Every other one greedy, the rest sampled; 3 to 26 prompt tokens, 8 to 19 new ones: most cross a page. */
const JOBS = Array.from({ length: 24 }, (_, i) => {
  const prompt = Array.from({ length: 3 + i }, (_, at) => 5 + ((i * 37 + at * 11) % 400));
  return job(`job-${i}`, prompt, 8 + Math.floor(i / 2), i % 2);
});

interface Loaded {
  graph: Graph;
  tokenizer: Tokenizer;
}

async function idsOf(loaded: Loaded, jobs: readonly Job[], maxCachedTokens: number): Promise<Map<string, number[]>> {
  const engine = new Engine(loaded.graph, loaded.tokenizer, null, {
    maxBatchTokens: 64,
    maxSequences: 24,
    maxCachedTokens,
  });
  const ids = new Map<string, number[]>();
  for (const each of jobs) {
    ids.set(each.id, []);
    const accepted = engine.add(each, []);
    if ('code' in accepted) throw new Error(JSON.stringify(accepted));
  }
  while (engine.numJobs > 0)
    for (const event of await engine.step()) {
      if (event.kind === 'failed') throw new Error(JSON.stringify(event.failure));
      if (event.kind === 'token') ids.get(event.jobId)!.push(event.token.id);
    }
  return ids;
}

describe('24 sequences at once, deterministic', () => {
  test.each(['f32', 'auto'] as const)('give what each gives alone, with preemption (%s)', async (precision) => {
    const gpu = await openGpu({ precision });
    const backend = () => backendOn(gpu, { deterministic: true, precision });
    const together = await loadDemoOn('gptq-int4', backend());
    // A third of what all of them need: sequences are preempted and computed again.
    const found = await idsOf(together, JOBS, 224);
    await together.backend.dispose();
    for (const each of [JOBS[0]!, JOBS[13]!, JOBS[22]!]) {
      const alone = await loadDemoOn('gptq-int4', backend());
      expect(found.get(each.id)).toEqual((await idsOf(alone, [each], 224)).get(each.id));
      await alone.backend.dispose();
    }
    for (const each of JOBS) expect(found.get(each.id)).toHaveLength(each.maxNewTokens!);
    await gpu.destroy();
  });
});

describe('a device that is lost', () => {
  /** Runs jobs on a worker whose device goes away after `steps` steps; `reload` is what the worker is given. */
  async function run(reload: (old: Backend) => Promise<Loaded & { backend: Backend }>) {
    const first = await loadDemoOn('gptq-int4', await openBackend({ deterministic: true }));
    let backend: Backend = first.backend;
    const engine = new Engine(first.graph, first.tokenizer, null, {
      maxBatchTokens: 64,
      maxSequences: 4,
      maxCachedTokens: 512,
    });
    const frames: Frame[] = [];
    const log: string[] = [];
    const broken: string[] = [];
    let messages = 0;
    const worker = new Worker(
      engine,
      (more) => {
        frames.push(...more);
        if (++messages === 9) (backend as WebGpuBackend).gpu.opened.device.destroy();
      },
      (line) => log.push(line),
      {
        reload: async () => {
          const loaded = await reload(backend);
          backend = loaded.backend;
          return loaded.graph;
        },
        onBroken: (failure) => broken.push(failure.code),
      },
    );
    for (const each of JOBS.slice(0, 4)) worker.lease(each, 1, []);
    await worker.idle();
    await backend.dispose();
    return { frames, log, broken };
  }

  const idsIn = (frames: readonly Frame[], id: string) =>
    frames.flatMap((frame) =>
      frame.kind === 'tokens' && frame.jobId === id ? frame.tokens.map((token) => token.id) : [],
    );

  test('is opened anew and the answers go on as if nothing had been', async () => {
    const { frames, log, broken } = await run(async (old) => {
      await old.dispose();
      return loadDemoOn('gptq-int4', await openBackend({ deterministic: true }));
    });
    expect(broken).toEqual([]);
    expect(log.join()).toContain('the GPU was lost');
    const undisturbed = await loadDemoOn('gptq-int4', await openBackend({ deterministic: true }));
    const expected = await idsOf(undisturbed, JOBS.slice(0, 4), 512);
    await undisturbed.backend.dispose();
    for (const [id, ids] of expected) expect(idsIn(frames, id)).toEqual(ids);
    expect(frames.filter(({ kind }) => kind === 'finished')).toHaveLength(4);
  });

  test('and does not come back fails every job by name, and the worker says that it is broken', async () => {
    const { frames, broken } = await run(async () => {
      throw new Error('no adapter any more');
    });
    expect(broken).toEqual(['internal']);
    expect(frames.filter(({ kind }) => kind === 'failed')).toHaveLength(4);
  });
});
