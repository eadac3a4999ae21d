/** Weights: models at s3://bucket/prefix: published, fetched, listed and checked. */
import { createHash } from 'node:crypto';
import { describe, failureOf, NibbleError } from '../../core/errors.ts';
import { type Command, type Options, usage } from '../command-line.ts';
import { JSON_FLAG, STORE_FLAGS } from '../model-flags.ts';
import { writeOutput } from '../output.ts';
import { progressBar } from '../progress.ts';
import { openModel, remoteOptions } from '../store/open-model.ts';
import { expectHash, piecesOf, publishedHashes, pullFiles } from '../store/pull.ts';
import { formatS3, parseS3Address } from '../store/s3-address.ts';
import { POINTER, readManifest } from '../store/s3-files.ts';
import { openS3Model } from '../store/s3-model.ts';

const MB = 1e6;

/** Each action with what follows it. */
const ACTIONS = {
  push: { operands: ['MODEL', 's3://BUCKET/PREFIX'], run: push },
  pull: { operands: ['s3://BUCKET/PREFIX', 'OUT'], run: pull },
  list: { operands: ['s3://BUCKET/PREFIX'], run: list },
  verify: { operands: ['s3://BUCKET/PREFIX'], run: verify },
} as const;

export const weights: Command = {
  name: 'weights',
  summary: 'models in S3: push, pull, list, verify',
  positionals: ['ACTION', 'OPERAND…'],
  flags: {
    name: { kind: 'text', value: 'NAME', help: 'push: the name that list shows (MODEL)' },
    force: {
      kind: 'switch',
      help: 'pull: replace OUT; push: send files again that are there, in case they are damaged',
    },
    ...STORE_FLAGS,
    json: JSON_FLAG,
  },
  pending: [],
  examples: [
    'nibble weights push path/to/model s3://models/my-model',
    'nibble weights list s3://models',
    'nibble weights verify s3://models/my-model',
    'nibble weights pull s3://models/my-model path/to/copy',
    'nibble serve --model-id s3://models/my-model --edge https://your.edge --token nbl_…',
  ],
  run,
};

async function run(options: Options): Promise<void> {
  const [name, ...operands] = options.positionals;
  if (!Object.hasOwn(ACTIONS, name!))
    throw usage(`"${name}" is none of ${Object.keys(ACTIONS).join(', ')}; see --help`);
  const action = ACTIONS[name as keyof typeof ACTIONS];
  if (operands.length !== action.operands.length)
    throw usage(`nibble weights ${name} takes ${action.operands.join(' and ')}; see --help`);
  if (name !== 'push' && options.given('revision')) throw usage('--revision is for nibble weights push');
  await action.run(options, operands[0]!, operands[1] ?? '');
}

function answer(options: Options, result: unknown, lines: readonly string[]): void {
  console.log(options.on('json') ? JSON.stringify(result) : lines.join('\n'));
}

/** A bar in megabytes. */
function megabytes(label: string): (done: number, total: number) => void {
  const bar = progressBar(`${label} (MB)`);
  return (done, total) => bar(Math.floor(done / MB), Math.max(1, Math.floor(total / MB)));
}

async function push(options: Options, model: string, target: string): Promise<void> {
  const address = parseS3Address(target);
  const files = await openModel(model, options);
  try {
    const { publish } = await import('../store/publish.ts');
    const published = await publish(files, address, {
      s3: null,
      model: options.text('name') ?? model,
      quantization: null,
      sendAgain: options.on('force'),
      onProgress: megabytes('Pushing'),
    });
    const { id, address: at, files: count, bytes, sentBytes } = published;
    answer(options, { address: at, manifest: id, files: count, bytes, sent_bytes: sentBytes }, [
      `${at}: ${count} files, ${bytes} bytes, ${sentBytes} of them sent; manifest ${id}`,
    ]);
  } finally {
    await files.close();
  }
}

async function pull(options: Options, model: string, out: string): Promise<void> {
  const files = await openS3Model(model, remoteOptions(options));
  try {
    const hashes = await publishedHashes(model);
    let pulled = { files: 0, bytes: 0 };
    await writeOutput(out, { kind: 'directory', force: options.on('force'), source: model }, async (temporary) => {
      pulled = await pullFiles(files, hashes, temporary, megabytes('Pulling'));
    });
    answer(options, { out, ...pulled, verified: hashes !== null }, [
      `${out}: ${pulled.files} files, ${pulled.bytes} bytes, ${hashes === null ? 'without checksums to hold them against' : 'all as their manifest says'}`,
    ]);
  } finally {
    await files.close();
  }
}

function invalid(file: string, rule: string): NibbleError {
  return new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
}

async function list(options: Options, target: string): Promise<void> {
  const address = parseS3Address(target);
  const { S3Bucket } = await import('../store/s3-bucket.ts');
  const bucket = new S3Bucket(address.bucket, null);
  try {
    const prefix = address.prefix === '' ? '' : `${address.prefix}/`;
    const pointers = (await bucket.list(prefix)).filter(({ key }) => key === POINTER || key.endsWith(`/${POINTER}`));
    const models = [];
    const broken: { address: string; reason: string }[] = [];
    for (const { key } of pointers) {
      const at = { bucket: address.bucket, prefix: key.slice(0, -POINTER.length).replace(/\/$/, '') };
      const published = await readManifest(bucket, at).catch((error: unknown) => {
        broken.push({ address: formatS3(at), reason: describe(failureOf(error)) });
        return null;
      });
      if (published === null) continue;
      const { id, manifest } = published;
      const bytes = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
      const { model, quantization, files } = manifest;
      models.push({ address: formatS3(at), model, quantization, manifest: id, files: files.length, bytes });
    }
    answer(
      options,
      { models, broken },
      pointers.length === 0
        ? [`${formatS3(address)}: no model is published there`]
        : models.map(
            ({ address: at, model, quantization, bytes }) =>
              `${at}  ${bytes} bytes  ${model}${quantization === null ? '' : `  ${quantization}`}`,
          ),
    );
    if (broken.length > 0)
      throw invalid(
        formatS3(address),
        `${broken.length} of ${pointers.length} models cannot be read; the first: ${broken[0]!.reason}`,
      );
  } finally {
    bucket.close();
  }
}

/** Every byte of every file, from the store itself: what the disk cache holds proves nothing. */
async function verify(options: Options, target: string): Promise<void> {
  const address = parseS3Address(target);
  const hashes = await publishedHashes(target);
  if (hashes === null)
    throw new NibbleError({
      code: 'file_missing',
      file: formatS3(address),
      reason: 'there is no manifest to hold files against; nibble weights push writes one',
    });
  const files = await openS3Model(target, { ...remoteOptions(options), disk: null });
  try {
    const bar = megabytes('Verifying');
    const sources = await Promise.all(
      [...hashes.keys()].map(async (name) => ({ name, source: (await files.open(name))! })),
    );
    const total = sources.reduce((sum, { source }) => sum + source.size, 0);
    const broken: { file: string; reason: string }[] = [];
    let bytes = 0;
    for (const { name, source } of sources) {
      const hash = createHash('sha256');
      try {
        for await (const piece of piecesOf(source)) {
          hash.update(piece);
          bytes += piece.length;
          bar(bytes, total);
        }
        expectHash(source.name, hash.digest('hex'), hashes.get(name));
      } catch (error) {
        broken.push({ file: name, reason: describe(failureOf(error)) });
      }
    }
    const result = { address: formatS3(address), files: sources.length, bytes, broken };
    if (broken.length === 0 || options.on('json'))
      answer(options, result, [`${result.address}: ${sources.length} files, ${bytes} bytes, all as the manifest says`]);
    if (broken.length > 0)
      throw invalid(
        formatS3(address),
        `${broken.length} of ${sources.length} files are damaged; the first: ${broken[0]!.reason}`,
      );
  } finally {
    await files.close();
  }
}
