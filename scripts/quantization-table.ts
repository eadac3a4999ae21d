/** Quantization table: perplexity and bits per weight of each on-load method, measured and written into docs/quantization.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { Scorer } from '../core/engine/scorer.ts';
import { openCheckpoint } from '../core/formats/checkpoint-index.ts';
import { readJson } from '../core/formats/file-set.ts';
import { readQuantization } from '../core/formats/quantization.ts';
import type { Backend, BackendName, Linear, LinearWeight } from '../core/model/backend.ts';
import { loadModelWeights } from '../core/model/checkpoint.ts';
import { parseModelConfig } from '../core/model/config.ts';
import { Graph } from '../core/model/graph.ts';
import { Tokenizer } from '../core/text/tokenizer.ts';
import { openBackend } from '../gpu-worker/backends.ts';
import { openLocalModel } from '../gpu-worker/store/local.ts';

const ROOT = resolve(import.meta.dirname, '..');
const DOCUMENT = join(ROOT, 'docs', 'quantization.md');
const [BEGIN, END] = ['<!-- table: begin -->', '<!-- table: end -->'];
const METHODS = ['none', 'bitsandbytes', 'bitsandbytes-nf4', 'bitsandbytes-fp4'] as const;
const SHARED = process.env.NIBBLE_SHARED_DATA ?? resolve(ROOT, '../shared/data');

const { values: options } = parseArgs({
  options: {
    'model-id': { type: 'string', default: join(SHARED, 'stories260k') },
    file: { type: 'string', default: join(SHARED, 'text/tinystories-1000.json') },
    stories: { type: 'string', default: '20' },
    backend: { type: 'string', default: 'reference' },
  },
});

interface Measured {
  method: string;
  bitsPerWeight: number;
  tokens: number;
  perplexity: number;
}

/** Bytes that the packed matrix occupies, its scales included and its bias not. */
function bytesOf(weight: LinearWeight): number {
  switch (weight.kind) {
    case 'dense':
      return weight.bytes.byteLength;
    case 'gptq':
      return weight.qweight.byteLength + weight.qzeros.byteLength + weight.scales.byteLength;
    case 'bnb4': {
      const { absmax } = weight;
      const scales =
        absmax.kind === 'plain' ? absmax.values.byteLength : absmax.codes.byteLength + absmax.nested.byteLength + 4;
      return weight.packed.byteLength + scales;
    }
    case 'int8':
      return weight.values.byteLength + weight.rowAbsmax.byteLength;
    default:
      return weight satisfies never;
  }
}

async function measure(method: string, stories: readonly string[]): Promise<Measured> {
  const files = await openLocalModel(options['model-id']);
  const config = parseModelConfig(await readJson(files, 'config.json', 4e6, 'required'), null, 'config.json');
  const tokenizer = new Tokenizer(
    await readJson(files, 'tokenizer.json', 1e8, 'required'),
    (await readJson(files, 'tokenizer_config.json', 4e6)) ?? {},
  );
  const backend = await openBackend({
    name: options.backend as BackendName,
    dtype: null,
    deterministic: true,
    matrices: false,
    threads: 1,
  });
  const tables = new Set([config.tensors.embedding, config.tensors.head]);
  let [bytes, weights] = [0, 0];
  const loadLinear = async (weight: LinearWeight, label: string): Promise<Linear> => {
    if (!tables.has(label)) {
      bytes += bytesOf(weight);
      weights += weight.outFeatures * weight.inFeatures;
    }
    return backend.loadLinear(weight, label);
  };
  const counting: Backend = new Proxy(backend, {
    get(target, name) {
      const member = name === 'loadLinear' ? loadLinear : target[name as keyof Backend];
      return typeof member === 'function' ? member.bind(target) : member;
    },
  });
  const quantization = await readQuantization(files, method);
  const loaded = await loadModelWeights(await openCheckpoint(files), { config, quantization, backend: counting });
  await files.close();
  const scorer = new Scorer(new Graph(config, loaded, backend), config.contextTokens);
  let [tokens, nll] = [0, 0];
  for (const story of stories)
    for (const logprob of await scorer.logprobs(tokenizer.encode(story, 'add').slice(0, config.contextTokens))) {
      tokens++;
      nll -= logprob;
    }
  await backend.dispose();
  return { method, bitsPerWeight: (bytes * 8) / weights, tokens, perplexity: Math.exp(nll / tokens) };
}

const stories = (JSON.parse(readFileSync(options.file, 'utf8')) as string[]).slice(0, Number(options.stories));
const measured: Measured[] = [];
for (const method of METHODS) measured.push(await measure(method, stories));
const [plain] = measured as [Measured];
const table = [
  `${basename(options['model-id'])}, ${stories.length} stories of ${basename(options.file)}, ${plain.tokens} tokens, ${options.backend} backend:`,
  '',
  '| `--quantize` | bits per weight | perplexity | against none |',
  '| --- | --- | --- | --- |',
  ...measured.map(({ method, bitsPerWeight, perplexity }) => {
    const change = (perplexity / plain.perplexity - 1) * 100;
    return `| ${method} | ${bitsPerWeight.toFixed(3)} | ${perplexity.toFixed(4)} | ${change >= 0 ? '+' : ''}${change.toFixed(2)}% |`;
  }),
].join('\n');
const text = readFileSync(DOCUMENT, 'utf8');
const [before, rest] = text.split(BEGIN);
const after = rest?.split(END)[1];
if (before === undefined || after === undefined) throw new Error(`${DOCUMENT} has no ${BEGIN} … ${END}`);
writeFileSync(DOCUMENT, `${before}${BEGIN}\n${table}\n${END}${after}`);
console.log(table);
