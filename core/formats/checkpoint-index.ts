/** Checkpoint index: a model's tensors over all of its .safetensors files, sharded or not. */
import { NibbleError } from '../errors.ts';
import { type FileSet, readJson } from './file-set.ts';
import { openSafetensors, type SafetensorsFile } from './safetensors.ts';
import { MAX_NAME_CHARS, MAX_TENSORS, type TensorEntry } from './safetensors-header.ts';

export { type FileSet, readJson, readText } from './file-set.ts';

const WHOLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
/** The largest published index (a trillion parameters, 380 experts a layer) is about 15 MB. */
const MAX_INDEX_BYTES = 64_000_000;
/** The largest published checkpoints have about 200 shards. */
const MAX_SHARDS = 2000;
/** Shards opened at once: hides a store's latency without flooding it. */
const OPEN_AT_ONCE = 8;

export interface CheckpointFiles {
  /** The file set's name. */
  readonly name: string;
  /** Over all shards. Offsets count within the tensor's own shard. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** The first shard's. */
  readonly metadata: Readonly<Record<string, string>>;
  has(name: string): boolean;
  /** All bytes of one tensor. Throws `file_invalid` when no file has it. */
  read(name: string): Promise<Uint8Array>;
  /** `length` bytes from `offset` within the tensor. */
  readRange(name: string, offset: number, length: number): Promise<Uint8Array>;
  /** Announces that these tensors will be read next, in this order. Only a hint. */
  expect?(names: readonly string[]): void;
}

/**
 * The lone file where the set names one, else model.safetensors, else the shards of model.safetensors.index.json, else, where the set
 * can list its files, AutoGPTQ's gptq_model-*.safetensors or all .safetensors files there are, as text-generation-inference takes them.
 */
export async function openCheckpoint(files: FileSet): Promise<CheckpointFiles> {
  const whole = files.lone ?? (await files.open(WHOLE));
  if (whole !== null) return joinShards(files.name, [await openSafetensors(whole)]);
  const index = await readJson(files, INDEX, MAX_INDEX_BYTES);
  if (index !== null) return openShards(files, index);
  const names = ((await files.list?.()) ?? []).filter(isPlainFileName).sort();
  const ofAutoGptq = names.filter((name) => name.startsWith('gptq_model-'));
  const paths = ofAutoGptq.length > 0 ? ofAutoGptq : names;
  if (paths.length === 0)
    throw new NibbleError({ code: 'file_missing', file: files.name, reason: `there is no ${WHOLE} and no ${INDEX}` });
  return joinShards(files.name, await openAll(files, paths, 'listed there'));
}

async function openShards(files: FileSet, index: unknown): Promise<CheckpointFiles> {
  const indexName = `${files.name}/${INDEX}`;
  const invalid = (tensor: string | null, rule: string) =>
    new NibbleError({ code: 'file_invalid', file: indexName, tensor, rule });
  const shardOf = parseWeightMap(index, invalid);
  const paths = [...new Set(shardOf.values())];
  const shards = await openAll(files, paths, `named by ${INDEX}`);
  const shardByPath = new Map(paths.map((path, i) => [path, shards[i]!]));
  for (const [tensor, path] of shardOf)
    if (!shardByPath.get(path)!.tensors.has(tensor))
      throw invalid(tensor, `is not in ${path}, where the index puts it`);
  return joinShards(files.name, shards);
}

/** In the order of the paths. `origin` says who names them. */
async function openAll(files: FileSet, paths: readonly string[], origin: string): Promise<SafetensorsFile[]> {
  if (paths.length > MAX_SHARDS)
    throw new NibbleError({
      code: 'file_invalid',
      file: files.name,
      tensor: null,
      rule: `has ${paths.length} files, over ${MAX_SHARDS}`,
    });
  const shards: SafetensorsFile[] = [];
  for (let i = 0; i < paths.length; i += OPEN_AT_ONCE) {
    const opening = paths.slice(i, i + OPEN_AT_ONCE).map(async (path) => {
      const source = await files.open(path);
      if (source === null)
        throw new NibbleError({ code: 'file_missing', file: files.name, reason: `there is no ${path}, ${origin}` });
      return openSafetensors(source);
    });
    shards.push(...(await Promise.all(opening)));
  }
  return shards;
}

/** Tensor name → shard's file name. */
function parseWeightMap(
  index: unknown,
  invalid: (tensor: string | null, rule: string) => NibbleError,
): ReadonlyMap<string, string> {
  const map = typeof index === 'object' && index !== null && 'weight_map' in index ? index.weight_map : null;
  if (typeof map !== 'object' || map === null || Array.isArray(map)) throw invalid(null, 'has no "weight_map" object');
  const entries = Object.entries(map);
  if (entries.length === 0) throw invalid(null, 'has an empty "weight_map"');
  if (entries.length > MAX_TENSORS) throw invalid(null, `maps ${entries.length} tensors, over ${MAX_TENSORS}`);
  for (const [tensor, path] of entries) {
    if (tensor.length > MAX_NAME_CHARS)
      throw invalid(tensor.slice(0, 100), `the name has ${tensor.length} characters, over ${MAX_NAME_CHARS}`);
    if (typeof path !== 'string' || !isPlainFileName(path))
      throw invalid(
        tensor,
        `is mapped to ${JSON.stringify(path)?.slice(0, 100)}, not to a plain .safetensors file name`,
      );
  }
  return new Map(entries as [string, string][]);
}

/** Letters, digits, dots, dashes, underscores: nothing that could leave the model's directory on any system. */
function isPlainFileName(path: string): boolean {
  return path.length <= 255 && /^[\w-][\w.-]*\.safetensors$/.test(path) && !path.includes('..');
}

function joinShards(name: string, shards: SafetensorsFile[]): CheckpointFiles {
  const tensors = new Map<string, TensorEntry>();
  const shardOf = new Map<string, SafetensorsFile>();
  for (const shard of shards) {
    for (const [tensor, entry] of shard.tensors) {
      const other = shardOf.get(tensor);
      if (other !== undefined)
        throw new NibbleError({ code: 'file_invalid', file: shard.name, tensor, rule: `is in ${other.name} too` });
      tensors.set(tensor, entry);
      shardOf.set(tensor, shard);
    }
  }
  const shardWith = (tensor: string): SafetensorsFile => {
    const shard = shardOf.get(tensor);
    if (shard !== undefined) return shard;
    throw new NibbleError({ code: 'file_invalid', file: name, tensor, rule: "is in none of the checkpoint's files" });
  };
  return {
    name,
    tensors,
    metadata: shards[0]!.metadata,
    has: (tensor) => tensors.has(tensor),
    expect(names) {
      // Runs of one shard's tensors, so that the shards' announcements come in order too.
      for (let begin = 0, end = 0; begin < names.length; begin = end) {
        const shard = shardOf.get(names[begin]!);
        do end++;
        while (end < names.length && shardOf.get(names[end]!) === shard);
        shard?.expect(names.slice(begin, end));
      }
    },
    read: async (tensor) => shardWith(tensor).read(tensor),
    readRange: async (tensor, offset, length) => shardWith(tensor).readRange(tensor, offset, length),
  };
}
