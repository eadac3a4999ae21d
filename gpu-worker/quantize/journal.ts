/** Journal: what a run has finished, beside OUT, so that a run that was killed goes on there. Every file appears whole or not at all. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { MemorySource } from '../../core/formats/byte-source.ts';
import { openSafetensors, type SafetensorsFile } from '../../core/formats/safetensors.ts';
import { planSafetensors } from '../../core/formats/safetensors-writer.ts';
import type { HiddenStates } from './hidden-states.ts';
import { bytesOfTensor, type NamedTensor } from './packed-tensors.ts';

/** Names no loader takes for weights. */
const RUN = 'run.json';
const layerName = (layer: number) => `layer-${layer}.packed`;
const stageName = (layer: number) => `layer-${layer}.stage`;
const hiddenName = (layer: number) => `hidden-${layer}.f32`;

export class Journal {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** The run's journal beside `out`. One of another run, or of other inputs, is emptied. `identity` is everything that decides the bytes. */
  static async open(out: string, identity: object): Promise<Journal> {
    const full = resolve(out);
    const directory = join(dirname(full), `.${basename(full)}.quantizing`);
    const text = JSON.stringify(identity);
    const found = await readFile(join(directory, RUN), 'utf8').catch(() => null);
    if (found !== text) await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true });
    const journal = new Journal(directory);
    await journal.#write(RUN, [new TextEncoder().encode(text)]);
    return journal;
  }

  /** The layer to go on with, its hidden states read into `hidden`; 0 and nothing read when none is finished. */
  async resume(hidden: HiddenStates, layers: number): Promise<number> {
    let finished = 0;
    while (finished < layers && (await this.#has(layerName(finished)))) finished++;
    if (finished === layers) return layers;
    // A crash between a layer's file and its hidden states leaves those of the layer before.
    for (let layer = finished; layer > 0; layer--) {
      const found = await stat(join(this.directory, hiddenName(layer))).catch(() => null);
      if (found?.size !== hidden.values.byteLength) continue;
      let at = 0;
      const bytes = new Uint8Array(hidden.values.buffer);
      for await (const chunk of createReadStream(join(this.directory, hiddenName(layer)))) {
        bytes.set(chunk, at);
        at += chunk.length;
      }
      if (at === bytes.length) return layer;
    }
    return 0;
  }

  /** The hidden states that layer `layer` takes; those of other layers go. */
  async saveHidden(layer: number, hidden: HiddenStates): Promise<void> {
    await this.#write(hiddenName(layer), [new Uint8Array(hidden.values.buffer)]);
    for (const name of await readdir(this.directory))
      if (/^hidden-\d+\.f32$/.test(name) && name !== hiddenName(layer)) await rm(join(this.directory, name));
  }

  layerFile(layer: number): string {
    return join(this.directory, layerName(layer));
  }

  async saveLayer(layer: number, tensors: readonly NamedTensor[], reports: object): Promise<void> {
    await this.#writeTensors(layerName(layer), tensors, { reports: JSON.stringify(reports) });
    await rm(join(this.directory, stageName(layer)), { force: true });
  }

  /** The linears that are quantized so far in an unfinished layer; its path. */
  async saveStage(layer: number, tensors: readonly NamedTensor[]): Promise<string> {
    await this.#writeTensors(stageName(layer), tensors, {});
    return join(this.directory, stageName(layer));
  }

  async openLayer(layer: number): Promise<SafetensorsFile> {
    const file = this.layerFile(layer);
    return openSafetensors(new MemorySource(file, new Uint8Array(await readFile(file))));
  }

  async remove(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }

  async #has(name: string): Promise<boolean> {
    return (await stat(join(this.directory, name)).catch(() => null)) !== null;
  }

  async #writeTensors(name: string, tensors: readonly NamedTensor[], metadata: Record<string, string>): Promise<void> {
    const plan = planSafetensors(tensors, metadata, name);
    await this.#write(name, [plan.header, ...plan.tensors.map(bytesOfTensor)]);
  }

  /** On disk before it has its name. */
  async #write(name: string, parts: readonly Uint8Array[]): Promise<void> {
    const unfinished = join(this.directory, `${name}.unfinished`);
    const handle = await open(unfinished, 'w');
    try {
      for (const part of parts) await handle.writeFile(part);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(unfinished, join(this.directory, name));
  }
}

export function hashOf(sequences: readonly (readonly number[])[]): string {
  return createHash('sha256').update(JSON.stringify(sequences)).digest('hex');
}
