/** Resident: one model in this isolate, from its files in R2 to an engine on the wasm kernels. */
import { Engine } from '../../core/engine/engine.ts';
import type { FileSet } from '../../core/formats/file-set.ts';
import type { HeadBits } from '../../core/formats/requantize.ts';
import type { KvDtype } from '../../core/model/backend.ts';
import { loadModelWeights } from '../../core/model/checkpoint.ts';
import { Graph } from '../../core/model/graph.ts';
import { type ModelOutline, modelCard, openModelOutline, openModelText } from '../../core/model/model-files.ts';
import type { ModelCard } from '../../core/protocol.ts';
import { createWasmBackend, type WasmBackend } from '../../wasm/backend.ts';
import kernels from '../../wasm/build/nibble-relaxed.wasm';
import { LIMIT_BYTES, type MemoryPlan, planMemory } from './memory-plan.ts';

/** Jobs at once. */
export const SLOTS = 4;
/** f16 tables are half of a tiny model's bytes. */
const HEAD_BITS: HeadBits = 8;

export interface ModelPlan {
  outline: ModelOutline;
  plan: MemoryPlan;
}

export interface Resident {
  card: ModelCard;
  engine: Engine;
  backend: WasmBackend;
  plan: MemoryPlan;
  parameters: number;
}

/** Reads config and header, and plans. Throws `model_unsupported` with the numbers when the model is too large. */
export async function planModel(files: FileSet): Promise<ModelPlan> {
  const outline = await openModelOutline(files, null);
  const tokenizerBytes = (await files.open('tokenizer.json'))?.size ?? 0;
  // What the backend likes best: texts are then those of a worker.
  const kvDtype: KvDtype = createWasmBackend(kernels, 'relaxed').defaultKvDtype;
  const options = { headBits: HEAD_BITS, kvDtype, tokenizerBytes, slots: SLOTS };
  return { outline, plan: planMemory(files.name, outline, options) };
}

/** What the catalog is told. */
export async function cardOf(files: FileSet, model: string, { outline, plan }: ModelPlan): Promise<ModelCard> {
  const text = await openModelText(files, plan.contextTokens, 'required');
  return modelCard(model, outline, text, plan.contextTokens);
}

/** Loads the weights, tensor by tensor; never two copies of the model. */
export async function loadResident(files: FileSet, model: string, { outline, plan }: ModelPlan): Promise<Resident> {
  const { config, checkpoint, quantization, parameters } = outline;
  const backend = createWasmBackend(kernels, 'relaxed', { maxBytes: LIMIT_BYTES - plan.heapBytes });
  const weights = await loadModelWeights(checkpoint, { config, quantization, backend, headBits: HEAD_BITS });
  const text = await openModelText(files, plan.contextTokens, 'required');
  const engine = new Engine(new Graph(config, weights, backend), text.tokenizer, text.template, {
    maxSequences: SLOTS,
    maxBatchTokens: plan.stepTokens,
    maxCachedTokens: plan.cachedTokens,
  });
  return { card: modelCard(model, outline, text, plan.contextTokens), engine, backend, plan, parameters };
}
