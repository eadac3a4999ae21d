/** HubDataset: one file of a dataset on the Hub, into the cache on disk. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { datasetInfo, HubApiError, pathsInfo } from '@huggingface/hub';
import { NibbleError } from '../../core/errors.ts';
import type { HubAccess } from './hub-access.ts';
import {
  downloadFiles,
  expectCommit,
  type HubFile,
  homeOf,
  hubParams,
  keepRevision,
  keptDirectory,
  reasonOf,
} from './hub-files.ts';

export interface DatasetFile {
  /** organization/name */
  id: string;
  revision: string;
  /** Inside the repository. */
  path: string;
  /** More is not fetched. */
  maxBytes: number;
}

/**
 * The file's path on this disk, complete; not fetched again when it is there, and without a connection the one of this revision that was
 * fetched last. `cache` null: the default place. Throws `file_missing` with the reason, `file_invalid` when it is too large.
 */
export async function downloadDatasetFile(
  { id, revision, path, maxBytes }: DatasetFile,
  { cache, access }: { cache: string | null; access: HubAccess },
): Promise<string> {
  const home = homeOf('dataset', id, cache);
  const hub = hubParams(access);
  let commit: string;
  let file: HubFile | undefined;
  try {
    commit = (await datasetInfo({ name: id, revision, additionalFields: ['sha'], ...hub })).sha;
    expectCommit(commit);
    const repo = { type: 'dataset', name: id } as const;
    file = (await pathsInfo({ repo, paths: [path], revision: commit, ...hub })).find((found) => found.path === path);
  } catch (error) {
    const kept = error instanceof HubApiError ? null : await keptDirectory(home, revision);
    if (kept !== null && (await stat(join(kept, path)).catch(() => null)) !== null) return join(kept, path);
    const why = error instanceof HubApiError ? `it answered ${error.statusCode}` : reasonOf(error);
    throw missing(`the dataset cannot be fetched from ${access.endpoint} at revision ${revision}: ${why}`);
  }
  if (file === undefined) throw missing(`${access.endpoint} has no ${path} in it at revision ${revision}`);
  if (file.size > maxBytes)
    throw new NibbleError({
      code: 'file_invalid',
      file: `${id}/${path}`,
      tensor: null,
      rule: `has ${file.size} bytes on ${access.endpoint}, over the ${maxBytes} of calibration data`,
    });
  const directory = await downloadFiles({ kind: 'dataset', id, commit, home }, [file], access);
  await keepRevision(home, revision, commit);
  return join(directory, path);

  function missing(reason: string): NibbleError {
    return new NibbleError({ code: 'file_missing', file: id, reason });
  }
}
