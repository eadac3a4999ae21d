/** OpenModel: MODEL, wherever it is: a directory or a file here, s3://bucket/prefix. */
import { stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import type { Options } from '../command-line.ts';
import type { RemoteOptions } from './fetcher.ts';
import { openLocalModel } from './local.ts';
import { isS3 } from './s3-address.ts';
import { openS3Model } from './s3-model.ts';
import type { StoredModel } from './stored-model.ts';

const GB = 1e9;
const DEFAULT_LIMIT_GB = 100;

/** organisation/name; a directory of that name goes before it. */
const HUB_ID = /^[\w][\w.-]*\/[\w][\w.-]*$/;

/** --huggingface-hub-cache and --disk-cache-gb, or their defaults; 0 GB keeps nothing. */
export function remoteOptions(options: Options): RemoteOptions {
  const limitBytes = (options.number('disk-cache-gb') ?? DEFAULT_LIMIT_GB) * GB;
  const directory =
    options.text('huggingface-hub-cache') ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'nibble');
  return { s3: null, disk: limitBytes === 0 ? null : { directory, limitBytes }, log };
}

export function log(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Throws `file_missing` with the address when there is nothing. */
export async function openModel(model: string, remote: RemoteOptions): Promise<StoredModel> {
  return isS3(model) ? openS3Model(model, remote) : openLocalModel(model);
}

/** Whether MODEL names a repository of the Hugging Face Hub. */
export async function isHubId(model: string): Promise<boolean> {
  return !isS3(model) && HUB_ID.test(model) && (await stat(model).catch(() => null)) === null;
}
