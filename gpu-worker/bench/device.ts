/** Device: which machine and which commit a number belongs to. */
import { execFileSync } from 'node:child_process';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import type { Backend, Measurable } from '../../core/model/backend.ts';
import { WasmBackend } from '../../wasm/backend.ts';

const ROOT = join(import.meta.dirname, '..', '..');

/** Of the CPU's kernels; 1 where a GPU computes. */
export function threadsOf(backend: Backend): number {
  return backend instanceof WasmBackend ? backend.threads : 1;
}

export function measurableOf(backend: Backend): (Backend & Measurable) | null {
  return 'measureBandwidth' in backend ? (backend as Backend & Measurable) : null;
}

/** "AMD EPYC (2 cores, 24 GB), Node 24.21.0; WebAssembly, relaxed SIMD, 1 thread" */
export function deviceOf(backend: Backend): string {
  const host = hostOf();
  const own = measurableOf(backend)?.device;
  return own === undefined ? host : `${host}; ${own}`;
}

/** The machine without an accelerator. */
export function hostOf(): string {
  const [cpu] = cpus();
  return `${cpu?.model ?? process.arch} (${cpus().length} cores, ${Math.round(totalmem() / 1e9)} GB), Node ${process.versions.node}`;
}

/** The commit, "-dirty" when tracked files differ from it; NIBBLE_COMMIT where there is no repository, as in a bundle; else "unknown". */
export function commitOf(): string {
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  if (process.env.NIBBLE_COMMIT) return process.env.NIBBLE_COMMIT;
  try {
    const isDirty = git('status', '--porcelain', '--untracked-files=no') !== '';
    return git('rev-parse', '--short=12', 'HEAD') + (isDirty ? '-dirty' : '');
  } catch {
    return 'unknown';
  }
}
