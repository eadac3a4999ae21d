/** nibble quantize from the command line: a model that loads and predicts, the same bytes after a kill, and bad input in one sentence. */
import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { nibble } from '../../end-to-end/running-edge.ts';
import { HubServer } from '../hub-server.ts';

const ROOT = join(import.meta.dirname, '../../..');
const MODEL = join(ROOT, 'models/demo/f16');
const STORIES = [
  'Once upon a time, there was a kind fox named Milo. He lived on a big farm and liked to listen to the birds.',
  'Once upon a time, there was a small pony called Laura, who lived under an old oak tree and wanted a friend.',
  'Every day, Luna the squirrel gathered nuts. One morning the basket was empty, and she asked Ben the bear for help.',
  'A young owl named Max could not sleep at night. "Come and play with me," said the moon, and they played hide and seek.',
];
let directory: string;
let data: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nibble-quantize-'));
  data = join(directory, 'stories.json');
  await writeFile(data, JSON.stringify(STORIES));
});
afterEach(() => rm(directory, { recursive: true, force: true }));
const out = () => join(directory, 'out');
const weightsOf = (path: string) => readFile(join(path, 'model.safetensors'));
const quantize = (...args: string[]) => nibble(['quantize', MODEL, out(), '--dataset', data, ...args]);
const perplexity = async (model: string) =>
  JSON.parse((await nibble(['perplexity', '--model-id', model, '--file', data, '--json'])).stdout).perplexity;

describe('the demo model', () => {
  test('becomes a directory that loads, hardly worse than before, with its report and plot', async () => {
    const { code, stdout, stderr } = await quantize('--groupsize', '64', '--true-sequential', '--eval', data, '--json');
    expect([code, stderr]).toEqual([0, '']);
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({ quantized: 28, plain: [], samples: 4, backend: 'wasm' });
    expect(result.perplexity.after).toBeLessThan(1.1 * result.perplexity.before);
    expect(await perplexity(out())).toBeCloseTo(result.perplexity.after, 6);
    for (const { relative_error: error, damping } of result.linears) {
      expect(error).toBeGreaterThan(0);
      expect(error).toBeLessThan(0.2);
      expect(damping).toBe(0.01);
    }
    const { quantization_config: own, ...config } = JSON.parse(await readFile(join(out(), 'config.json'), 'utf8'));
    expect(config).toEqual(JSON.parse(await readFile(join(MODEL, 'config.json'), 'utf8')));
    expect(JSON.parse(await readFile(join(out(), 'quantize_config.json'), 'utf8'))).toEqual(own);
    expect(own).toMatchObject({ bits: 4, group_size: 64, desc_act: false, sym: true, quant_method: 'gptq' });
    expect((await readdir(out())).sort()).toEqual(
      [
        'config.json',
        'generation_config.json',
        'model.safetensors',
        'quantize-report.md',
        'quantize-report.svg',
        'quantize_config.json',
        'tokenizer.json',
        'tokenizer_config.json',
      ].sort(),
    );
    const report = await readFile(join(out(), 'quantize-report.md'), 'utf8');
    expect(report.match(/^\| model\.layers\./gm)).toHaveLength(28);
    expect(report).toMatch(/Perplexity on .* before, .* after/);
    expect(await readFile(join(out(), 'quantize-report.svg'), 'utf8')).toMatch(/^<svg.*self_attn\.q_proj.*<\/svg>/s);
    expect(await readdir(directory)).toEqual(expect.not.arrayContaining([expect.stringMatching(/quantizing|tmp/)]));
  });

  test.each([
    ['3 bits, act-order, asymmetric', ['--bits', '3', '--act-order', '--no-sym', '--groupsize', '64']],
    ['8 bits, one group, static groups', ['--bits', '8', '--groupsize', '-1', '--static-groups']],
    ['2 bits, clipped', ['--bits', '2', '--groupsize', '32', '--mse', '--act-order', '--static-groups']],
  ])('%s: inspect and generate read it back', async (_, flags) => {
    expect((await quantize(...flags, '--nsamples', '2', '--seqlen', '24')).code).toBe(0);
    const { quantization } = JSON.parse((await nibble(['inspect', out(), '--json'])).stdout);
    expect(quantization).toMatchObject({
      bits: Number(flags[1]),
      desc_act: flags.includes('--act-order'),
      sym: !flags.includes('--no-sym'),
    });
    const generated = await nibble(['generate', '--model-id', out(), '--prompt', 'Once', '--max-new-tokens', '2']);
    expect(generated.code).toBe(0);
  });

  test('shards are split where asked, and hold the same tensors', async () => {
    expect((await quantize('--max-shard-size', '700000', '--nsamples', '1')).code).toBe(0);
    const names = (await readdir(out())).filter((name) => name.endsWith('.safetensors'));
    expect(names.length).toBeGreaterThan(1);
    expect(names[0]).toBe(`model-00001-of-0000${names.length}.safetensors`);
    expect((await nibble(['generate', '--model-id', out(), '--prompt', 'Once', '--max-new-tokens', '1'])).code).toBe(0);
  });

  test('a run that is killed goes on at its last finished layer and gives the same bytes, on any number of threads', async () => {
    expect((await quantize('--threads', '1')).code).toBe(0);
    const again = join(directory, 'again');
    const args = [join(ROOT, 'gpu-worker/cli.ts'), 'quantize', MODEL, again, '--dataset', data, '--threads', '2'];
    const journal = join(directory, '.again.quantizing');
    const child = spawn(process.execPath, args, { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    while (child.exitCode === null && (await stat(join(journal, 'layer-1.packed')).catch(() => null)) === null)
      await setTimeout(2);
    child.kill('SIGKILL');
    await ended;
    expect(await readdir(directory)).not.toContain('again');
    const finished = await stat(join(journal, 'layer-0.packed'));
    expect((await nibble(['generate', '--model-id', journal, '--prompt', 'Once'])).code).toBe(1);

    const before = finished.mtimeMs;
    const resumed = nibble(['quantize', MODEL, again, '--dataset', data, '--json']);
    let kept: number | null = null;
    for (let running = true; running; ) {
      kept = (await stat(join(journal, 'layer-0.packed')).catch(() => null))?.mtimeMs ?? kept;
      running = (await Promise.race([resumed, setTimeout(5, null)])) === null;
    }
    expect((await resumed).code).toBe(0);
    expect(kept).toBe(before);
    expect(await weightsOf(again)).toEqual(await weightsOf(out()));
    expect(await readdir(directory)).not.toContain('.again.quantizing');
  });
});

describe('bad input', () => {
  const expectRefusal = async (
    result: Promise<{ code: number | null; stderr: string }>,
    code: number,
    text: RegExp,
  ) => {
    const { stderr, code: actual } = await result;
    expect(stderr).toMatch(text);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(actual).toBe(code);
    expect(await readdir(directory)).not.toContain('out');
  };

  test('calibration data that is empty, too short or not there', async () => {
    const file = join(directory, 'short.txt');
    await writeFile(file, '');
    await expectRefusal(nibble(['quantize', MODEL, out(), '--dataset', file]), 1, /short\.txt: is empty/);
    await writeFile(file, 'Once upon a time');
    await expectRefusal(
      nibble(['quantize', MODEL, out(), '--dataset', file]),
      1,
      /short\.txt: holds \d+ tokens; a window/,
    );
    const empty = ['--dataset-dir', directory];
    await expectRefusal(nibble(['quantize', MODEL, out(), ...empty]), 1, /wiki\.train\.raw: is not there/);
  });

  test('weights that are not finite, named', async () => {
    const model = join(directory, 'model');
    await cp(MODEL, model, { recursive: true });
    const bytes = await readFile(join(model, 'model.safetensors'));
    const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString());
    const begin = 8 + Number(bytes.readBigUInt64LE(0));
    const poison = async (name: string) => {
      const copy = Buffer.from(bytes);
      copy.writeUInt16LE(0x7e00, begin + header[name].data_offsets[0]);
      await writeFile(join(model, 'model.safetensors'), copy);
    };
    const run = () => nibble(['quantize', model, out(), '--dataset', data, '--nsamples', '1']);
    await poison('model.layers.1.self_attn.k_proj.weight');
    await expectRefusal(run(), 1, /model\.layers\.1\.self_attn\.k_proj.*(finite|NaN)/);
    await poison('model.layers.2.input_layernorm.weight');
    await expectRefusal(run(), 1, /tensor "model\.layers\.2\.self_attn\.q_proj": its input channel 0 is not finite/);
  });

  test('an OUT that exists, a model that is quantized, an architecture that is not known, wrong options', async () => {
    await mkdir(out());
    await writeFile(join(out(), 'config.json'), '{}');
    expect(await quantize()).toMatchObject({ code: 2, stderr: expect.stringMatching(/is there already; --force/) });
    await rm(out(), { recursive: true });
    const packed = join(ROOT, 'models/demo/gptq-int4');
    await expectRefusal(nibble(['quantize', packed, out(), '--dataset', data]), 1, /is quantized already/);
    const model = join(directory, 'model');
    await cp(MODEL, model, { recursive: true });
    await writeFile(join(model, 'config.json'), '{"model_type": "mamba"}');
    await expectRefusal(nibble(['quantize', model, out(), '--dataset', data]), 1, /model_type "mamba"/);
    await expectRefusal(quantize('--bits', '5'), 2, /--bits is "5"; it is one of 2, 3, 4, 8/);
    await expectRefusal(quantize('--groupsize', '0'), 2, /--groupsize is 0/);
    await expectRefusal(quantize('--percdamp', '1'), 2, /--percdamp is 1; it must be above 0 and below 1/);
    await expectRefusal(quantize('--upload-to-model-id', 'a/b'), 2, /needs a token in HF_TOKEN/);
  });

  test('a tokenizer that is of another model', async () => {
    const model = join(directory, 'model');
    await cp(join(ROOT, 'test/fixtures/architectures/llama'), model, { recursive: true });
    await cp(join(MODEL, 'tokenizer.json'), join(model, 'tokenizer.json'));
    await expectRefusal(
      nibble(['quantize', model, out(), '--dataset', data, '--groupsize', '32']),
      1,
      /tokenizer\.json: gives the token \d+ for the calibration data; the model has 64, from 0/,
    );
  });

  test('an OUT where nothing can be', async () => {
    const under = join(data, 'out');
    const { code, stderr } = await nibble(['quantize', MODEL, under, '--dataset', data, '--nsamples', '1']);
    expect([code, stderr]).toEqual([
      1,
      `nibble quantize: ${under}: what is finished cannot be written beside it: ENOTDIR\n`,
    ]);
  });

  test('a disk that takes no more leaves no OUT, and says that the same command goes on', async () => {
    // RLIMIT_FSIZE, in units of 512 or 1024 bytes: the first layer's file does not fit.
    const command = `trap '' XFSZ; ulimit -f 64; exec "$0" "$@"`;
    const args = [join(ROOT, 'bin/nibble'), 'quantize', MODEL, out(), '--dataset', data, '--nsamples', '1'];
    const child = spawn('bash', ['-c', command, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (part) => {
      stderr += part;
    });
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(1);
    expect(stderr).toMatch(/out: what is finished cannot be written beside it: EFBIG; the same command goes on/);
    expect(await readdir(directory)).not.toContain('out');
    expect((await quantize('--nsamples', '1')).code).toBe(0);
  });
});

test('a model by Hub id is fetched, quantized by wikitext2 from there, and uploaded after success', async () => {
  const hub = await HubServer.start();
  try {
    const files = new Map<string, Buffer>();
    for (const name of await readdir(MODEL)) files.set(name, await readFile(join(MODEL, name)));
    hub.models.set('org/demo', files);
    const wikitext = 'wikitext-2-raw-v1/train-00000-of-00001.parquet';
    const rows = await readFile(join(ROOT, 'test/fixtures/datasets', wikitext));
    hub.datasets.set('Salesforce/wikitext', new Map([[wikitext, rows]]));
    const child = spawn(
      join(ROOT, 'bin/nibble'),
      [
        ...['quantize', 'org/demo', out(), '--nsamples', '2', '--seqlen', '64', '--json'],
        ...['--huggingface-hub-cache', join(directory, 'cache'), '--upload-to-model-id', 'me/demo-gptq'],
      ],
      { env: { ...process.env, HF_ENDPOINT: hub.url, HF_TOKEN: hub.token }, stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let stdout = '';
    child.stdout.on('data', (part) => {
      stdout += part;
    });
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ samples: 2, tokens: 128 });
    expect(JSON.parse(stdout).uploaded).toMatch(/\/me\/demo-gptq\/commit\//);
    const uploaded = hub.models.get('me/demo-gptq')!;
    expect(uploaded.get('model.safetensors')).toEqual(await weightsOf(out()));
    expect([...uploaded.keys()].sort()).toEqual((await readdir(out())).sort());
  } finally {
    await hub.close();
  }
});

test('a lone layer: its weight and Hessian in, its packed tensors out, as `dequantize` reads them', async () => {
  const layer = join(ROOT, 'test/fixtures/gptq/solver/w4-g32-asym-act.safetensors');
  const packed = join(directory, 'packed.safetensors');
  const flags = ['--bits', '4', '--groupsize', '32', '--act-order', '--no-sym', '--json'];
  const { code, stdout } = await nibble(['quantize', layer, packed, ...flags]);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ damping: 0.01 });
  const { quantization } = JSON.parse((await nibble(['inspect', packed, '--json'])).stdout);
  expect(quantization).toMatchObject({ bits: 4, group_size: 32, desc_act: true, sym: false });
  expect((await nibble(['dequantize', packed, join(directory, 'plain.safetensors')])).code).toBe(0);
  for (const flag of ['--eval', '--upload-to-model-id']) {
    const { code, stderr } = await nibble(['quantize', layer, packed, '--force', flag, 'me/x']);
    expect([code, stderr]).toEqual([2, `nibble quantize: ${flag} is for whole models; ${layer} is one layer\n`]);
  }
});
