/** Hub: models by id on a server that speaks the Hugging Face Hub's API: their files into a cache on disk, and a directory up. */
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  commitIter,
  createRepo,
  HubApiError,
  type ListFileEntry,
  listFiles,
  modelInfo,
  repoExists,
} from '@huggingface/hub';
import { NibbleError } from '../../core/errors.ts';
import { progressBar } from '../progress.ts';
import type { HubAccess } from './hub-access.ts';
import {
  downloadFiles,
  expectCommit,
  homeOf,
  hubParams,
  keepRevision,
  keptDirectory,
  reasonOf,
  snapshotDirectory,
} from './hub-files.ts';

/** Only files that a model is read from: weights, configs, tokenizer, template. Nothing in subdirectories, no weights of other formats. */
function isWanted({ type, path }: ListFileEntry): boolean {
  return type === 'file' && /^[A-Za-z0-9_][\w.-]*\.(safetensors|json|jinja)$/.test(path) && !/^consolidated/.test(path);
}

export interface DownloadOptions {
  revision: string | null;
  cache: string | null;
  access: HubAccess;
}

/**
 * The model's files, complete, in a directory of the cache; what is there already is not fetched again, what was cut short goes on.
 * Without a connection, the files that this revision had when it was fetched last. Throws `file_missing` with the reason.
 */
export async function downloadModel(id: string, { revision, cache, access }: DownloadOptions): Promise<string> {
  const wanted = revision ?? 'main';
  const home = homeOf('model', id, cache);
  const hub = hubParams(access);
  let commit: string;
  const files: ListFileEntry[] = [];
  try {
    commit = (await modelInfo({ name: id, revision: wanted, additionalFields: ['sha'], ...hub })).sha;
    expectCommit(commit);
    for await (const file of listFiles({ repo: id, revision: commit, ...hub })) if (isWanted(file)) files.push(file);
  } catch (error) {
    const kept = saysNo(error) ? null : await keptSnapshot(home, wanted);
    if (kept !== null) return kept;
    throw missing(id, wanted, access, error);
  }
  const snapshot = { kind: 'model', id, commit, home } as const;
  await mkdir(snapshotDirectory(snapshot), { recursive: true });
  const directory = await downloadFiles(snapshot, files, access);
  await keepRevision(home, wanted, commit);
  return directory;
}

/** What this revision was when it was last fetched whole. */
async function keptSnapshot(home: string, revision: string): Promise<string | null> {
  const directory = await keptDirectory(home, revision);
  if (directory === null) return null;
  const found = await stat(join(directory, 'config.json')).catch(() => null);
  return found === null ? null : directory;
}

function missing(id: string, revision: string, { endpoint, token }: HubAccess, error: unknown): NibbleError {
  const at = `${endpoint} at revision ${revision}`;
  const reason = saysNo(error)
    ? `there is no such directory here, and no model of that name at ${at}${token === null ? '; a private one needs HF_TOKEN' : ' that HF_TOKEN may read'}`
    : `there is no such directory or file here, and ${at} ${error instanceof HubApiError ? `answered ${error.statusCode}` : `did not answer: ${reasonOf(error)}`}`;
  return new NibbleError({ code: 'file_missing', file: id, reason });
}

/** Asking again, or asking what was fetched last, would not help. */
function saysNo(error: unknown): boolean {
  return error instanceof HubApiError && [401, 403, 404].includes(error.statusCode);
}

/** All files of a directory as one commit to the model `id`, which is made where there is none. Throws `file_missing` with the Hub's reason. */
export async function uploadModel(directory: string, id: string, { endpoint, token }: HubAccess): Promise<string> {
  const hub = { hubUrl: endpoint, accessToken: token! };
  const repo = { type: 'model', name: id } as const;
  try {
    if (!(await repoExists({ repo, ...hub }))) await createRepo({ repo, ...hub });
    const content = pathToFileURL(`${directory}/`);
    const title = 'Quantized by nibble';
    const upload = commitIter({ repo, ...hub, title, operations: [{ operation: 'addOrUpdate', path: '', content }] });
    const progress = progressBar(`Uploading ${id}`);
    const doneOf = new Map<string, number>();
    for (;;) {
      const step = await upload.next();
      if (step.done) {
        progress(1, 1);
        return step.value?.commit.url ?? `${endpoint}/${id}`;
      }
      if (step.value.event !== 'fileProgress' || step.value.state !== 'uploading') continue;
      doneOf.set(step.value.path, step.value.progress);
      const sum = [...doneOf.values()].reduce((total, part) => total + part, 0);
      // Never full before the commit is made.
      progress(Math.min(99, Math.floor((99 * sum) / doneOf.size)), 100);
    }
  } catch (error) {
    throw new NibbleError({
      code: 'file_missing',
      file: id,
      reason: `the upload to ${endpoint} failed: ${reasonOf(error)}; ${directory} is whole: "hf upload ${id} ${directory}" sends it`,
    });
  }
}
