/** Check: types, lint and format, import arrows, unused code. Prints what is wrong; exit code 1 if anything is. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';
import { forbiddenImports } from './arrows.ts';
import { sourceFiles } from './source-files.ts';
import { unusedExports } from './unused-exports.ts';

const ROOT = join(import.meta.dirname, '..');
const TYPE_PROJECTS = ['core', 'wasm', 'edge', 'gpu-worker', 'test/edge'];

let failed = false;
for (const project of TYPE_PROJECTS) run(`types of ${project}`, 'tsc', ['-p', project]);
run('lint and format', 'biome', ['ci', '--error-on-warnings', '.']);
const files = sourceFiles(ROOT);
report('import arrows', forbiddenImports(files));
report('unused code', unusedExports(files));
process.exitCode = failed ? 1 : 0;

function run(title: string, program: string, args: string[]): void {
  const { status } = spawnSync(join(ROOT, 'node_modules', '.bin', program), args, { cwd: ROOT, stdio: 'inherit' });
  verdict(title, status === 0);
}

function report(title: string, problems: readonly string[]): void {
  for (const problem of problems) console.error(problem);
  verdict(title, problems.length === 0);
}

function verdict(title: string, ok: boolean): void {
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${title}`);
  failed ||= !ok;
}
