/** The demo model on WebGPU agrees with the reference, teacher-forced, in every quantization mode. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Scorer } from '../../core/engine/scorer.ts';
import type { Backend } from '../../core/model/backend.ts';
import { ReferenceBackend } from '../../core/model/reference.ts';
import type { Gpu } from '../../gpu-worker/webgpu/gpu.ts';
import { DEMO_DIRECTORY, loadDemoOn } from '../gpu-worker/demo-model.ts';
import { backendOn, openGpu } from './gpu-under-test.ts';

const GOLDEN = join(import.meta.dirname, '..', 'fixtures', 'demo', 'golden.json');
const TOKENS = 500;
/** bitsandbytes modes quantize the f16 model on load. */
const MODES = [
  ['f16', null],
  ['gptq-int4', null],
  ['f16', 'bitsandbytes'],
  ['f16', 'bitsandbytes-nf4'],
  ['f16', 'bitsandbytes-fp4'],
] as const;

/** The golden cases' prompts and answers. */
async function texts(): Promise<number[][]> {
  const golden: Record<string, Record<string, { inputIds: number[]; greedyIds: number[] }>> = JSON.parse(
    await readFile(GOLDEN, 'utf8'),
  );
  return [golden.f16!, golden['gptq-int4']!].flatMap((cases) =>
    Object.values(cases).map(({ inputIds, greedyIds }) => [...inputIds, ...greedyIds]),
  );
}

async function topsOf(backend: Backend, variant: 'f16' | 'gptq-int4', quantize: string | null): Promise<number[]> {
  const { graph, config } = await loadDemoOn(variant, backend, quantize);
  const scorer = new Scorer(graph, config.contextTokens);
  const tops: number[] = [];
  for (const ids of await texts()) {
    if (tops.length >= TOKENS) break;
    await scorer.logits(ids, (row) => tops.push(row.indexOf(row.reduce((a, b) => Math.max(a, b)))));
  }
  await backend.dispose();
  return tops;
}

let gpu: Gpu;
/** The reference's, by mode: it is slow. */
const references = new Map<string, Promise<number[]>>();
beforeAll(async () => {
  gpu = await openGpu({ precision: 'auto' });
});
afterAll(async () => {
  await gpu.destroy();
});

describe.each(['default', 'deterministic'] as const)('the demo model on WebGPU, %s', (order) => {
  for (const [variant, quantize] of MODES) {
    // The bundle for GPU machines has no room for the f16 model.
    const isHere = existsSync(join(DEMO_DIRECTORY, variant));
    test.skipIf(!isHere)(
      `${variant}, --quantize ${quantize}: at least 99 in 100 top tokens are the reference’s`,
      async () => {
        const mode = `${variant} ${quantize}`;
        if (!references.has(mode)) references.set(mode, topsOf(new ReferenceBackend(), variant, quantize));
        const expected = await references.get(mode)!;
        const backend = backendOn(gpu, { deterministic: order === 'deterministic', precision: 'auto' });
        const found = await topsOf(backend, variant, quantize);
        expect(expected.length).toBeGreaterThanOrEqual(TOKENS);
        const agreed = expected.filter((id, at) => id === found[at]).length;
        console.log(`${mode} ${order}: ${agreed} of ${expected.length} top tokens agree`);
        expect(agreed / expected.length).toBeGreaterThanOrEqual(0.99);
      },
    );
  }
});
