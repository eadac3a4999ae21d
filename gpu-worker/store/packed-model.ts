/** PackedModel: a model as it was quantized while it loaded, in files that load as they are: kept on disk until it is published. */
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NibbleError } from '../../core/errors.ts';
import { bitsandbytesConfig, bitsandbytesTensors } from '../../core/formats/bitsandbytes-writer.ts';
import { type ByteSource, MemorySource } from '../../core/formats/byte-source.ts';
import type { CheckpointFiles } from '../../core/formats/checkpoint-index.ts';
import { readJson } from '../../core/formats/file-set.ts';
import { MAX_CONFIG_BYTES } from '../../core/formats/quantization-config.ts';
import type { BitsandbytesMethod } from '../../core/formats/quantize-linear.ts';
import { type PlannedTensor, planSafetensors } from '../../core/formats/safetensors-writer.ts';
import { floatDtypeOf, tensorName } from '../../core/formats/tensor-reader.ts';
import type { LinearWeight } from '../../core/model/backend.ts';
import type { StoredModel } from './stored-model.ts';

/** A tensor's bytes: in the spool, or still in the checkpoint. */
type Place = { kind: 'spool'; offset: number } | { kind: 'checkpoint' };
type PlacedTensor = PlannedTensor & { place: Place };

const WHOLE = 'model.safetensors';
/** What the packed files replace. */
const REPLACED = /\.safetensors$|^(model\.safetensors\.index|config|quantize_config|quant_config)\.json$/;

/** Takes each linear as it is made; one that fails to be written makes the recording void, never the loading. */
export class PackedRecorder {
  readonly #directory: string;
  readonly #handle: FileHandle;
  readonly #checkpoint: CheckpointFiles;
  readonly #tensors: PlacedTensor[] = [];
  readonly #replaced = new Set<string>();
  #bytes = 0;
  #failure: Error | null = null;

  private constructor(directory: string, handle: FileHandle, checkpoint: CheckpointFiles) {
    this.#directory = directory;
    this.#handle = handle;
    this.#checkpoint = checkpoint;
  }

  /** In the system's directory for temporary files, as large as the packed weights. */
  static async start(checkpoint: CheckpointFiles): Promise<PackedRecorder> {
    const directory = await mkdtemp(join(tmpdir(), 'nibble-packed-'));
    return new PackedRecorder(directory, await open(join(directory, 'spool'), 'w+'), checkpoint);
  }

  /** `prefix` is the linear's name in the checkpoint. Weights that are not bitsandbytes' are left where they are. */
  async record(prefix: string, weight: LinearWeight): Promise<void> {
    const plain = this.#checkpoint.tensors.get(tensorName(prefix, 'weight'));
    if (this.#failure !== null || plain === undefined || (weight.kind !== 'bnb4' && weight.kind !== 'int8')) return;
    try {
      for (const { bytes, ...tensor } of bitsandbytesTensors(prefix, weight, floatDtypeOf(plain))) {
        await this.#handle.writeFile(bytes);
        this.#tensors.push({ ...tensor, place: { kind: 'spool', offset: this.#bytes } });
        this.#bytes += bytes.length;
      }
      this.#replaced.add(plain.name);
    } catch (error) {
      this.#failure = error as Error;
    }
  }

  /** The packed model over what was recorded and what `source` has besides. Throws what kept a linear from being recorded. */
  async finish(source: StoredModel, method: BitsandbytesMethod): Promise<StoredModel> {
    if (this.#failure !== null) {
      const { code, message } = this.#failure as NodeJS.ErrnoException;
      const reason = code === 'ENOSPC' ? 'the disk is full (ENOSPC)' : (code ?? message);
      throw new NibbleError({ code: 'file_missing', file: this.#directory, reason: `cannot be written: ${reason}` });
    }
    const kept = [...this.#checkpoint.tensors.values()]
      .filter(({ name }) => !this.#replaced.has(name))
      .map(({ name, dtype, shape }): PlacedTensor => ({ name, dtype, shape, place: { kind: 'checkpoint' } }));
    const weights = this.#source([...this.#tensors, ...kept], `${source.name}/${WHOLE}`);
    const config = (await readJson(source, 'config.json', MAX_CONFIG_BYTES, 'required')) as Record<string, unknown>;
    const packedConfig = { ...config, quantization_config: bitsandbytesConfig(method) };
    const configBytes = new TextEncoder().encode(`${JSON.stringify(packedConfig, null, 2)}\n`);
    const own: Record<string, ByteSource> = {
      [WHOLE]: weights,
      'config.json': new MemorySource(`${source.name}/config.json`, configBytes),
    };
    return {
      name: source.name,
      baseName: source.baseName,
      open: async (path) => own[path] ?? (REPLACED.test(path) ? null : source.open(path)),
      list: async () => [...Object.keys(own), ...(await source.list()).filter((name) => !REPLACED.test(name))],
      identity: async () => `${await source.identity()} ${method}`,
      close: async () => {},
    };
  }

  async dispose(): Promise<void> {
    await this.#handle.close();
    await rm(this.#directory, { recursive: true, force: true });
  }

  #source(tensors: readonly PlacedTensor[], name: string): ByteSource {
    const plan = planSafetensors(tensors, { format: 'pt' }, name);
    const parts = [{ begin: 0, bytes: plan.header.length, read: async () => plan.header }];
    for (const { name: tensor, bytes, place } of plan.tensors) {
      const begin = parts.at(-1)!.begin + parts.at(-1)!.bytes;
      const read =
        place.kind === 'spool' ? () => this.#spooled(place.offset, bytes) : () => this.#checkpoint.read(tensor);
      parts.push({ begin, bytes, read });
    }
    // Parts of one upload end in mid-tensor: the last tensor is asked for again.
    let last: { part: (typeof parts)[number]; bytes: Promise<Uint8Array> } | null = null;
    return {
      name,
      size: plan.totalBytes,
      async read(offset, length) {
        const end = Math.min(offset + length, plan.totalBytes);
        const into = new Uint8Array(end - offset);
        for (const part of parts) {
          if (part.begin >= end || part.begin + part.bytes <= offset) continue;
          if (last?.part !== part) last = { part, bytes: part.read() };
          const bytes = await last.bytes;
          const from = Math.max(offset, part.begin);
          into.set(bytes.subarray(from - part.begin, end - part.begin), from - offset);
        }
        return into;
      },
    };
  }

  async #spooled(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    await this.#handle.read(bytes, 0, length, offset);
    return bytes;
  }
}
