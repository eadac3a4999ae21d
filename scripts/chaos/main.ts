/** Chaos: `npm run chaos -- --requests N --seed S --json`: breaks everything under real requests and checks what must hold. Exit code 1 when it does not. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { commitOf, hostOf } from '../../gpu-worker/bench/device.ts';
import { ensureWasmBuilt } from '../build-wasm.ts';
import { run } from './run.ts';
import { holds } from './verdict.ts';

const OPTIONS = {
  requests: { type: 'string', default: '1000' },
  seed: { type: 'string', default: '1' },
  scripts: { type: 'string', default: '1000' },
  concurrency: { type: 'string', default: '24' },
  workers: { type: 'string', default: '3' },
  slots: { type: 'string', default: '8' },
  accounts: { type: 'string', default: '3' },
  shards: { type: 'string', default: '2' },
  'fault-every': { type: 'string', default: '6' },
  /** After so long no more requests begin. */
  minutes: { type: 'string', default: '60' },
  /** A file for the result, beside stdout. */
  out: { type: 'string' },
  /** Keeps the edge's state, journals and logs. */
  keep: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const;
const values = parsed();
if (values.help) {
  const flags = Object.entries(OPTIONS).map(
    ([name, option]) => `  --${name}${'default' in option ? ` (${option.default})` : ''}`,
  );
  console.log(['npm run chaos -- --requests 10000 --seed 1 --json   (docs/chaos.md)', ...flags].join('\n'));
  process.exit(0);
}

ensureWasmBuilt();
const number = (name: Exclude<keyof typeof OPTIONS, 'keep' | 'json' | 'out' | 'help'>): number => {
  const value = Number(values[name]);
  if (!Number.isSafeInteger(value) || value < 1) {
    console.error(`npm run chaos: --${name} is "${values[name]}"; a whole number of at least 1 is needed`);
    process.exit(2);
  }
  return value;
};
const options = {
  requests: number('requests'),
  seed: number('seed'),
  scripts: number('scripts'),
  concurrency: number('concurrency'),
  workers: number('workers'),
  slots: number('slots'),
  accounts: number('accounts'),
  shards: number('shards'),
  faultEvery: number('fault-every'),
  minutes: number('minutes'),
};
const folder = mkdtempSync(join(tmpdir(), 'nibble-chaos-'));
const result = await run({ ...options, folder, log: (line) => process.stderr.write(`${line}\n`) });
const { wrong, ...counts } = result;
const document = {
  ok: holds(result),
  device: hostOf(),
  commit: commitOf(),
  measured: new Date().toISOString().slice(0, 10),
  loadAverage: Math.round(10 * loadavg()[2]!) / 10,
  options,
  ...counts,
  wrong,
};
const text = JSON.stringify(document, null, 2);
if (values.out !== undefined) writeFileSync(values.out, `${text}\n`);
if (values.keep || !document.ok) process.stderr.write(`logs, journals and state: ${folder}\n`);
else rmSync(folder, { recursive: true, force: true });
// What miniflare leaves open must not keep a finished run alive.
process.stdout.write(`${values.json ? text : summary()}\n`, () => process.exit(document.ok ? 0 : 1));

function parsed() {
  try {
    return parseArgs({ options: OPTIONS }).values;
  } catch (error) {
    console.error(`npm run chaos: ${(error as Error).message}`);
    process.exit(2);
  }
}

function summary(): string {
  const lines = Object.entries(document)
    .filter(([name]) => name !== 'wrong')
    .map(([name, value]) => `${name.padEnd(26)}${typeof value === 'object' ? JSON.stringify(value) : value}`);
  return [...lines, ...wrong.map((sentence) => `WRONG ${sentence}`)].join('\n');
}
