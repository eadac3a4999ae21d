/** Build: compiles wasm/assembly into wasm/build/nibble-{relaxed,plain,solver}.wasm when they are older than their sources. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { withMemory } from '../wasm/memory-import.ts';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const assembly = join(root, 'wasm', 'assembly');
const build = join(root, 'wasm', 'build');
// Compiled for shared memory, or the optimiser takes atomic loads out of the loops that wait on them.
const SHARED = ['--sharedMemory', '--maximumMemory', '65535'];
const ARGUMENTS = {
  relaxed: ['index.ts', '-O3s', '--enable', 'simd,relaxed-simd,threads'],
  plain: ['index.ts', '-O3s', '--enable', 'simd,threads'],
  // Quantization's kernels: a module of their own.
  solver: ['solver_index.ts', '-O3', '--enable', 'simd,threads'],
};

/** Builds what is out of date and returns the files' paths. Throws one clear error when the compiler fails. Safe to call from several processes. */
export function ensureWasmBuilt(): Record<keyof typeof ARGUMENTS, string> {
  const newest = Math.max(
    ...[fileURLToPath(import.meta.url), ...readdirSync(assembly).map((name) => join(assembly, name))].map(modifiedMs),
  );
  return {
    relaxed: ensureVariant('relaxed', newest),
    plain: ensureVariant('plain', newest),
    solver: ensureVariant('solver', newest),
  };
}

function ensureVariant(variant: keyof typeof ARGUMENTS, newestSourceMs: number): string {
  const out = join(build, `nibble-${variant}.wasm`);
  if (modifiedMs(out) >= newestSourceMs) return out;
  mkdirSync(build, { recursive: true });
  // Renamed into place, so that a reader or another build never sees half a file.
  const unfinished = join(build, `nibble-${variant}.${process.pid}.wasm`);
  const args = [...ARGUMENTS[variant], '--runtime', 'stub', '--importMemory', ...SHARED];
  const asc = join(root, 'node_modules', 'assemblyscript', 'bin', 'asc.js');
  const run = spawnSync(process.execPath, [asc, ...args, '-o', relative(assembly, unfinished)], {
    cwd: assembly,
    encoding: 'utf8',
  });
  if (run.status !== 0) {
    rmSync(unfinished, { force: true });
    const output = run.error?.message ?? `${run.stdout}${run.stderr}`.trim();
    throw new Error(`building nibble-${variant}.wasm from wasm/assembly failed:\n${output}`);
  }
  // The inference builds run alone as often as in teams, which ask for shared memory themselves; the solver always has a team.
  if (variant !== 'solver') writeFileSync(unfinished, withMemory('unshared', readFileSync(unfinished)));
  renameSync(unfinished, out);
  return out;
}

/** 0 when there is no such file. */
function modifiedMs(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    for (const file of Object.values(ensureWasmBuilt())) process.stdout.write(`${relative(process.cwd(), file)}\n`);
  } catch (error) {
    process.stderr.write(`nibble: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
