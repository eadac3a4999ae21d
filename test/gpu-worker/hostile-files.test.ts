import { cp, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { nibble } from '../end-to-end/running-edge.ts';
import { DEMO_DIRECTORY } from './demo-model.ts';

let model: string;
beforeEach(async () => {
  model = await mkdtemp(join(tmpdir(), 'nibble-hostile-'));
  await cp(join(DEMO_DIRECTORY, 'gptq-int4'), model, { recursive: true });
});
afterEach(() => rm(model, { recursive: true, force: true }));

/** The model's failure as its user sees it: exit code 1 and one sentence. */
async function sentence(): Promise<string> {
  const { code, stdout, stderr } = await nibble(['generate', '--model-id', model, '--prompt', 'Hello', '--json']);
  expect([code, stdout]).toEqual([1, '']);
  expect(stderr.trim().split('\n')).toHaveLength(1);
  return stderr;
}

/** Rewrites the header's JSON, padded to its old length so that the data stays where it is. */
async function rewriteHeader(
  change: (header: Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>) => void,
): Promise<void> {
  const path = join(model, 'model.safetensors');
  const bytes = await readFile(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length));
  change(header);
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(length, ' '));
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt(padded.length));
  await writeFile(path, Buffer.concat([head, padded, bytes.subarray(8 + length)]));
}

const QWEIGHT = 'model.layers.0.self_attn.q_proj.qweight';

describe('a broken checkpoint ends in a sentence that names file and tensor', () => {
  test('truncated', async () => {
    await truncate(join(model, 'model.safetensors'), 900_000);
    expect(await sentence()).toMatch(/model\.safetensors: tensor "model\.[\w.]+": /);
  });

  test('truncated inside the header', async () => {
    await truncate(join(model, 'model.safetensors'), 100);
    expect(await sentence()).toMatch(/model\.safetensors: .*header/);
  });

  test('a tensor beyond the end', async () => {
    await rewriteHeader((header) => {
      header[QWEIGHT]!.data_offsets[1]! += 100_000_000;
    });
    expect(await sentence()).toMatch(new RegExp(`model\\.safetensors: tensor "${QWEIGHT}": `));
  });

  test('a shape that does not fit its bytes', async () => {
    await rewriteHeader((header) => {
      header[QWEIGHT]!.shape = [32, 255];
    });
    expect(await sentence()).toMatch(new RegExp(`model\\.safetensors: tensor "${QWEIGHT}": `));
  });

  test('a missing tensor', async () => {
    await rewriteHeader((header) => {
      header['x.weight'] = header['model.norm.weight']!;
      delete header['model.norm.weight'];
    });
    expect(await sentence()).toMatch(/tensor "model\.norm\.weight": is missing/);
  });

  test('a config that does not fit the tensors', async () => {
    const config = JSON.parse(await readFile(join(model, 'config.json'), 'utf8'));
    await writeFile(join(model, 'config.json'), JSON.stringify({ ...config, intermediate_size: 500 }));
    expect(await sentence()).toMatch(/tensor "model\.layers\.0\.mlp\.gate_proj.*": .*500/);
  });

  test.each([
    ['config.json', '{"model_type": "llama"', /config\.json: is not JSON/],
    ['config.json', '{"model_type": "mamba"}', /config\.json: model_type "mamba": /],
    ['tokenizer.json', '[]', /tokenizer\.json: /],
  ])('%s: %s', async (file, content, expected) => {
    await writeFile(join(model, file), content);
    expect(await sentence()).toMatch(expected);
  });

  test('a missing file and a missing directory', async () => {
    await rm(join(model, 'tokenizer.json'));
    expect(await sentence()).toMatch(/there is no tokenizer\.json/);
    await rm(model, { recursive: true });
    expect(await sentence()).toMatch(/there is no such directory or file/);
  });
});
