/** Head-bits table: the demo model's perplexity with embedding and head of 16, 8 and 4 bits, measured and written into docs/quantization.md. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import process from 'node:process';

const ROOT = resolve(import.meta.dirname, '..');
const DEMO = join(ROOT, 'models', 'demo');
const DOCUMENT = join(ROOT, 'docs', 'quantization.md');
const [BEGIN, END] = ['<!-- head bits: begin -->', '<!-- head bits: end -->'];
/** Not the training's: these documents are held out. */
const SEED = 777;
const DOCUMENTS = 400;

/** The stories among them: chats are arrays of messages. */
function heldOutStories(): string[] {
  const args = ['generate.py', '--seed', String(SEED), '--count', String(DOCUMENTS)];
  const lines = execFileSync('python3', args, { cwd: DEMO, encoding: 'utf8' }).trim().split('\n');
  return lines.map((line) => JSON.parse(line)).filter((document) => typeof document === 'string');
}

const folder = mkdtempSync(join(tmpdir(), 'nibble-head-bits-'));
const file = join(folder, 'stories.json');
const stories = heldOutStories();
writeFileSync(file, JSON.stringify(stories));

function perplexityOf(model: string, bits: number): { tokens: number; perplexity: number } {
  const flags = ['--model-id', join(DEMO, model), '--file', file, '--head-bits', String(bits), '--backend', 'wasm'];
  const cli = join(ROOT, 'gpu-worker', 'cli.ts');
  return JSON.parse(execFileSync(process.execPath, [cli, 'perplexity', ...flags, '--json'], { encoding: 'utf8' }));
}

const rows: string[] = [];
let tokens = 0;
for (const model of ['f16', 'gptq-int4']) {
  const plain = perplexityOf(model, 16);
  tokens = plain.tokens;
  for (const bits of [16, 8, 4]) {
    const { perplexity } = bits === 16 ? plain : perplexityOf(model, bits);
    const change = (perplexity / plain.perplexity - 1) * 100;
    const sign = change >= 0 ? '+' : '';
    rows.push(`| ${model} | ${bits} | ${perplexity.toFixed(4)} | ${sign}${change.toFixed(2)}% |`);
  }
}
rmSync(folder, { recursive: true });

const table = [
  `The demo model, ${stories.length} stories of \`generate.py --seed ${SEED} --count ${DOCUMENTS}\`, ${tokens} tokens, wasm backend:`,
  '',
  '| layers | `--head-bits` | perplexity | against 16 |',
  '| --- | --- | --- | --- |',
  ...rows,
].join('\n');
const [before, rest] = readFileSync(DOCUMENT, 'utf8').split(BEGIN);
const after = rest?.split(END)[1];
if (before === undefined || after === undefined) throw new Error(`${DOCUMENT} has no ${BEGIN} … ${END}`);
writeFileSync(DOCUMENT, `${before}${BEGIN}\n${table}\n${END}${after}`);
console.log(table);
