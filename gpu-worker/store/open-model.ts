/** OpenModel: MODEL, wherever it is: a directory or a file here, an id on the Hub, s3://bucket/prefix. */
import { stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { type Options, usage } from '../command-line.ts';
import type { RemoteOptions } from './fetcher.ts';
import { hubAccess, isHubId } from './hub-access.ts';
import { type LocalModel, openLocalModel } from './local.ts';
import { isS3 } from './s3-address.ts';
import { openS3Model } from './s3-model.ts';
import type { StoredModel } from './stored-model.ts';

const GB = 1e9;
const DEFAULT_LIMIT_GB = 100;

/** Throws `file_missing` with the address when there is nothing. */
export async function openModel(model: string, options: Options): Promise<StoredModel> {
  if (!isS3(model)) return openModelHere(model, options);
  expectNoRevision(model, options);
  return openS3Model(model, remoteOptions(options));
}

/** For commands that need the files' paths: those from the Hub and from S3 are fetched whole before anything is read. */
export async function openModelHere(model: string, options: Options): Promise<LocalModel> {
  if (isS3(model)) {
    expectNoRevision(model, options);
    const { keepS3Model } = await import('./pull.ts');
    const path = await keepS3Model(model, cacheDirectory(options), remoteOptions(options));
    return { ...(await openLocalModel(path)), baseName: model.replace(/\/+$/, '').split('/').pop()! };
  }
  if (!(await isOnHub(model))) {
    expectNoRevision(model, options);
    return openLocalModel(model);
  }
  const { downloadModel } = await import('./hub.ts');
  const directory = await downloadModel(model, {
    revision: options.text('revision'),
    cache: options.text('huggingface-hub-cache'),
    access: hubAccess(),
  });
  return { ...(await openLocalModel(directory)), baseName: model.split('/')[1]! };
}

/** Whether MODEL names a repository of the Hub. What is here comes first. */
export async function isOnHub(model: string): Promise<boolean> {
  return isHubId(model) && (await stat(model).catch(() => null)) === null;
}

function expectNoRevision(model: string, options: Options): void {
  if (options.given('revision')) throw usage(`--revision is for models on the Hub; ${model} is none`);
}

/** --huggingface-hub-cache and --disk-cache-gb, or their defaults; 0 GB keeps nothing. Hub models and chunks have folders of their own there. */
export function remoteOptions(options: Options): RemoteOptions {
  const limitBytes = (options.number('disk-cache-gb') ?? DEFAULT_LIMIT_GB) * GB;
  return { s3: null, disk: limitBytes === 0 ? null : { directory: cacheDirectory(options), limitBytes }, log };
}

function cacheDirectory(options: Options): string {
  return (
    options.text('huggingface-hub-cache') ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'nibble')
  );
}

export function log(line: string): void {
  process.stderr.write(`${line}\n`);
}
