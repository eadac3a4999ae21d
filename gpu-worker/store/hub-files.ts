/** HubFiles: files of one commit of a repository on the Hub, into its folder of the cache; what all kinds of repository share. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { progressBar } from '../progress.ts';
import { downloadFile } from './download.ts';
import { defaultHubCache, type HubAccess } from './hub-access.ts';

export type RepositoryKind = 'model' | 'dataset';

/** A repository at a commit: where its files are on the Hub, and where they go. */
export interface Snapshot {
  kind: RepositoryKind;
  /** organization/name */
  id: string;
  commit: string;
  home: string;
}

/** As the Hub lists it. */
export interface HubFile {
  path: string;
  size: number;
  /** Of git: its hash of the content. */
  oid?: string | undefined;
  /** Of large files: the SHA-256 of the content. */
  lfs?: { oid: string } | undefined;
}

/** A folder of the cache, as huggingface_hub names it. null: its default place. */
export function homeOf(kind: RepositoryKind, id: string, cache: string | null): string {
  return join(cache ?? defaultHubCache(), `${kind}s--${id.replace('/', '--')}`);
}

export function snapshotDirectory({ home, commit }: Pick<Snapshot, 'home' | 'commit'>): string {
  return join(home, 'snapshots', commit);
}

/** What the Hub's library takes of a HubAccess. */
export function hubParams({ endpoint, token }: HubAccess): { hubUrl: string; accessToken?: string } {
  return { hubUrl: endpoint, ...(token === null ? {} : { accessToken: token }) };
}

/** It becomes a directory's name. Throws a plain error when it could be another. */
export function expectCommit(commit: string): void {
  if (!/^[0-9a-f]{7,64}$/.test(commit)) throw new Error(`the Hub names a commit "${commit}"`);
}

/** Complete and checked, with a progress bar; what is there already is not fetched again, what was cut short goes on. The caller vouches for the paths. */
export async function downloadFiles(
  snapshot: Snapshot,
  files: readonly HubFile[],
  { endpoint, token }: HubAccess,
): Promise<string> {
  const { kind, id, commit } = snapshot;
  const directory = snapshotDirectory(snapshot);
  const total = files.reduce((sum, { size }) => sum + size, 0);
  const progress = progressBar(`Downloading ${id}`);
  const root = `${endpoint}/${kind === 'model' ? '' : 'datasets/'}${id}/resolve/${commit}`;
  let finished = 0;
  for (const file of files) {
    const target = join(directory, file.path);
    await mkdir(dirname(target), { recursive: true });
    await downloadFile({
      url: `${root}/${file.path}`,
      token,
      target,
      bytes: file.size,
      check: (path) => checkFile(path, file),
      onBytes: (bytes) => progress(finished + bytes, total),
    });
    finished += file.size;
  }
  return directory;
}

/** Slashes make directories, as huggingface_hub has it; null for a name that is no path. */
function refFile(home: string, revision: string): string | null {
  return /^[\w-][\w.-]*(\/[\w-][\w.-]*)*$/.test(revision) ? join(home, 'refs', revision) : null;
}

/** That `revision` is this commit now, for times without a connection. */
export async function keepRevision(home: string, revision: string, commit: string): Promise<void> {
  const file = refFile(home, revision);
  if (file === null) return;
  await mkdir(dirname(file), { recursive: true });
  await writeFile(`${file}.unfinished`, commit);
  await rename(`${file}.unfinished`, file);
}

/** The directory of what `revision` was when it was last fetched; null when it never was. */
export async function keptDirectory(home: string, revision: string): Promise<string | null> {
  const file = refFile(home, revision);
  if (file === null) return null;
  const commit = await readFile(file, 'utf8').catch(() => revision);
  return snapshotDirectory({ home, commit: commit.trim() });
}

/** Large files are named by their SHA-256, others by git's hash of their content. null when it is right. */
async function checkFile(path: string, { lfs, oid, size }: HubFile): Promise<string | null> {
  const expected = lfs?.oid ?? oid;
  if (expected === undefined) return null;
  const hash = lfs === undefined ? createHash('sha1').update(`blob ${size}\0`) : createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  const actual = hash.digest('hex');
  return actual === expected.replace(/^sha256:/, '') ? null : `its hash is ${actual}, the Hub says ${expected}`;
}

export function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? `${message} (${cause.message})` : message;
}
