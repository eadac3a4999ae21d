/** WeightsCache: --weights-cache s3://…: models that workers have loaded before, for the next worker; plain, or packed as --quantize made them. */
import { describe, failureOf } from '../../core/errors.ts';
import type { CheckpointFiles } from '../../core/formats/checkpoint-index.ts';
import type { BitsandbytesMethod } from '../../core/formats/quantize-linear.ts';
import type { Options } from '../command-line.ts';
import { progressBar } from '../progress.ts';
import type { RemoteOptions } from './fetcher.ts';
import { isOnHub, log, openModel, remoteOptions } from './open-model.ts';
import { PackedRecorder } from './packed-model.ts';
import { below, formatS3, parseS3Address, type S3Address } from './s3-address.ts';
import { findS3Model } from './s3-model.ts';
import type { StoredModel } from './stored-model.ts';

const PLAIN = 'plain';
/** Of an identity: enough that no two models of one name share it. */
const IDENTITY_DIGITS = 32;

/** What a command loads from, and what it leaves in the cache. */
export interface CachedModel {
  files: StoredModel;
  /** Whether `files` are the cache's: where they turn out damaged, the model may be had without it. */
  fromCache: boolean;
  /** Begins to record what `method` makes of the linears; null when the cache wants none of it. */
  record(checkpoint: CheckpointFiles, method: BitsandbytesMethod): Promise<PackedRecorder | null>;
  /** Publishes what the cache has not, once loading is done. A cache that cannot be written costs a line in the log. */
  fill(): Promise<void>;
  close(): Promise<void>;
}

/**
 * --model-id, from the cache where it has it. A Hub id is looked up before the Hub is asked, by its name and revision; a directory or an
 * S3 address by its content, and only for what --quantize would make of it: its plain files are near enough. `pass-by` takes nothing from
 * the cache, and replaces what is there.
 */
export async function openCachedModel(options: Options, how: 'look-up' | 'pass-by'): Promise<CachedModel> {
  const model = options.required('model-id');
  const remote = remoteOptions(options);
  const cacheText = options.text('weights-cache');
  if (cacheText === null) return uncached(await openModel(model, options));
  const cache = parseS3Address(cacheText);
  const mayFill = options.toggle('weights-cache-fill') !== false;
  const flag = options.text('quantize');
  const variant = flag?.startsWith('bitsandbytes') ? flag : null;
  const find = async (address: S3Address) => (how === 'pass-by' ? null : lookUp(address, remote));
  const fill = { model, remote, sendAgain: how === 'pass-by' };

  if (await isOnHub(model)) {
    const named = below(cache, ...model.split('/'), options.text('revision') ?? 'main');
    for (const kind of variant === null ? [PLAIN] : [variant, PLAIN]) {
      const found = await find(below(named, kind));
      if (found === null) continue;
      const base = { ...found, baseName: model.split('/').pop()! };
      return kind === PLAIN && variant !== null && mayFill
        ? { ...filling(base, below(named, variant), fill), fromCache: true }
        : { ...uncached(base), fromCache: true };
    }
    const files = await openModel(model, options);
    if (!mayFill) return uncached(files);
    return filling(files, below(named, variant ?? PLAIN), fill);
  }
  const files = await openModel(model, options);
  if (variant === null) return uncached(files);
  const address = below(cache, files.baseName, (await files.identity()).slice(0, IDENTITY_DIGITS), variant);
  const found = await find(address);
  if (found === null) return mayFill ? filling(files, address, fill) : uncached(files);
  await files.close();
  return { ...uncached({ ...found, baseName: files.baseName }), fromCache: true };
}

async function lookUp(address: S3Address, remote: RemoteOptions): Promise<StoredModel | null> {
  try {
    const found = await findS3Model(formatS3(address), remote);
    if (found !== null) log(`loading from the weights cache: ${found.name}`);
    return found;
  } catch (error) {
    log(`the weights cache cannot be read: ${describe(failureOf(error))}; loading goes on without it`);
    return null;
  }
}

/** Files as they are, with no cache to look into or fill. */
export function uncached(files: StoredModel): CachedModel {
  return { files, fromCache: false, record: async () => null, fill: async () => {}, close: () => files.close() };
}

interface Fill {
  /** As it was asked for. */
  model: string;
  remote: RemoteOptions;
  sendAgain: boolean;
}

function filling(files: StoredModel, address: S3Address, { model, remote, sendAgain }: Fill): CachedModel {
  const kind = address.prefix.split('/').pop()!;
  let recording: { recorder: PackedRecorder; method: BitsandbytesMethod } | null = null;
  const refused = (error: unknown) =>
    log(`the weights cache was not filled: ${describe(failureOf(error))}; the model is loaded all the same`);
  return {
    files,
    fromCache: false,
    async record(checkpoint, method) {
      if (kind === PLAIN) return null;
      try {
        recording = { recorder: await PackedRecorder.start(checkpoint), method };
        return recording.recorder;
      } catch (error) {
        refused(error);
        return null;
      }
    },
    async fill() {
      if (kind !== PLAIN && recording === null) return;
      try {
        const result = recording === null ? files : await recording.recorder.finish(files, recording.method);
        const { publish } = await import('./publish.ts');
        const published = await publish(result, address, {
          s3: remote.s3,
          model,
          quantization: kind === PLAIN ? null : kind,
          sendAgain,
          onProgress: progressBar('Filling the weights cache'),
        });
        log(`the weights cache has it now: ${published.address}, ${published.bytes} bytes`);
      } catch (error) {
        refused(error);
      }
    },
    async close() {
      await recording?.recorder.dispose();
      await files.close();
    },
  };
}
