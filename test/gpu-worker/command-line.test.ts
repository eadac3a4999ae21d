import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { failureOf } from '../../core/errors.ts';
import { type Command, helpOf, parseOptions } from '../../gpu-worker/command-line.ts';
import { generate } from '../../gpu-worker/commands/generate.ts';
import { nibble } from '../end-to-end/running-edge.ts';
import { DEMO_DIRECTORY } from './demo-model.ts';
import { HubServer } from './hub-server.ts';

const command: Command = {
  name: 'try',
  summary: 'for tests',
  positionals: ['MODEL'],
  flags: {
    'max-tokens': { kind: 'integer', help: 'a count', minimum: 1, env: 'MAX_TOKENS' },
    rate: { kind: 'number', help: 'a rate' },
    method: { kind: 'text', help: 'one of two', choices: ['a', 'b'] },
    loud: { kind: 'switch', help: 'a switch' },
    'group-size': { kind: 'integer', help: 'a size', minimum: -1, synonyms: ['groupsize'] },
    order: { kind: 'toggle', help: 'on or off', synonyms: ['sorted'] },
    shards: { kind: 'integer', help: 'one', only: '1', env: 'SHARDS' },
  },
  pending: ['num-shard'],
  examples: ['nibble try MODEL'],
  run: async () => {},
};

function refusal(args: string[], environment: NodeJS.ProcessEnv = {}): string {
  try {
    parseOptions(command, args, environment);
  } catch (error) {
    const failure = failureOf(error);
    return failure.code === 'usage' ? failure.reason : `not a usage failure: ${failure.code}`;
  }
  return 'accepted';
}

describe('options', () => {
  test('come from flags, then from TGI’s environment variables', () => {
    expect(
      parseOptions(command, ['m', '--max-tokens', '5', '--rate=0.5', '--loud'], { MAX_TOKENS: '9' }).number(
        'max-tokens',
      ),
    ).toBe(5);
    const options = parseOptions(command, ['m'], { MAX_TOKENS: '9' });
    expect([options.number('max-tokens'), options.on('loud'), options.text('method'), options.positionals]).toEqual([
      9,
      false,
      null,
      ['m'],
    ]);
  });

  test('have synonyms, and toggles that are on, off or neither', () => {
    const parse = (...args: string[]) => parseOptions(command, ['m', ...args], {});
    for (const args of [['--group-size', '-1'], ['--groupsize', '-1'], ['--groupsize=-1']])
      expect(parse(...args).number('group-size')).toBe(-1);
    expect(parse().toggle('order')).toBeNull();
    expect([parse('--order'), parse('--sorted')].map((options) => options.toggle('order'))).toEqual([true, true]);
    expect([parse('--no-order'), parse('--no-sorted')].map((options) => options.toggle('order'))).toEqual([
      false,
      false,
    ]);
    expect(refusal(['m', '--order', '--no-sorted'])).toBe('--order and --no-order exclude each other');
    expect(refusal(['m', '--no-order=1'])).toBe('--no-order takes no value');
    expect(helpOf(command)).toMatch(/--order\/--sorted\/--no-order +on or off/);
  });

  test.each([
    [['m', '--max-tokens', 'many'], '--max-tokens is "many"; a whole number is needed'],
    [['m', '--max-tokens', '1.5'], '--max-tokens is "1.5"; a whole number is needed'],
    [['m', '--max-tokens', '0'], '--max-tokens is 0; it must be at least 1'],
    [['m', '--max-tokens'], '--max-tokens needs a value'],
    [['m', '--method', 'c'], '--method is "c"; it is one of a, b'],
    [['m', '--loud=yes'], '--loud takes no value'],
    [['m', '--num-shard', '2'], '--num-shard is not supported yet'],
    [['m', '--shards', '2'], '--shards 2 is not supported yet'],
    [['m', '--colour'], '--colour is not an option of "nibble try"; see --help'],
    [['m', 'n'], '"n" was not expected; see --help'],
    [[], 'MODEL is missing; see --help'],
  ])('%j is refused: %s', (args, reason) => {
    expect(refusal(args)).toBe(reason);
  });

  test('a variable of a flag that is not built yet is not ignored either', () => {
    expect(refusal(['m'], { NUM_SHARD: '2' })).toBe('NUM_SHARD: --num-shard is not supported yet');
  });

  test('of a flag whose other values are not built yet, the one that is may be said', () => {
    expect(refusal(['m', '--shards', '1'])).toBe('accepted');
    expect(refusal(['m'], { SHARDS: '1' })).toBe('accepted');
    expect(refusal(['m'], { SHARDS: '4' })).toBe('SHARDS 4 is not supported yet');
  });

  test('TGI’s --sharded false --num-shard 1 --speculate 0 is what runs here', () => {
    const parsed = (...args: string[]) => parseOptions(generate, ['--model-id', 'm', ...args], {});
    expect(parsed('--sharded', 'false', '--num-shard', '1', '--speculate', '0').text('model-id')).toBe('m');
    for (const [flag, value] of Object.entries({ sharded: 'true', 'num-shard': '2', speculate: '3' }))
      expect(() => parsed(`--${flag}`, value)).toThrow(`--${flag} ${value} is not supported yet`);
  });

  test('help names every flag, variable and pending flag', () => {
    for (const word of ['--max-tokens', '[MAX_TOKENS]', '--method a|b', '--num-shard', 'nibble try MODEL'])
      expect(helpOf(command)).toContain(word);
  });
});

describe('the program', () => {
  test('exits 2 on wrong usage with one sentence, and 0 on help', async () => {
    for (const args of [
      ['conjure'],
      ['quantize', 'a'],
      ['generate', '--ids', 'one'],
      ['generate', '--model-id', DEMO_DIRECTORY],
      ['serve', '--model-id', 'x', '--token', 't'],
    ]) {
      const { code, stdout, stderr } = await nibble(args);
      expect([args, code, stdout, stderr.trim().split('\n').length]).toEqual([args, 2, '', 1]);
    }
    const { code, stdout } = await nibble(['serve', '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('--graceful-termination-timeout');
  });

  test('a backend that is not built yet is refused, never replaced', async () => {
    const { code, stderr } = await nibble([
      'generate',
      '--model-id',
      join(DEMO_DIRECTORY, 'f16'),
      '--prompt',
      'x',
      '--backend',
      'cuda',
    ]);
    expect([code, stderr]).toEqual([2, 'nibble generate: --backend cuda is not supported yet\n']);
  });

  test("TGI's REVISION counts for models on the Hub, and is no matter to others", async () => {
    const hub = await HubServer.start();
    try {
      hub.models.set('org/demo', new Map([['config.json', Buffer.from('{}')]]));
      const environment = {
        HF_ENDPOINT: hub.url,
        REVISION: 'v9',
        HUGGINGFACE_HUB_CACHE: join(tmpdir(), 'nibble-none'),
      };
      const { code, stderr } = await nibble(['inspect', 'org/demo'], environment);
      expect([code, stderr]).toEqual([1, expect.stringMatching(/at revision v9; a private one needs HF_TOKEN\n$/)]);
      expect((await nibble(['inspect', join(DEMO_DIRECTORY, 'f16'), '--json'], environment)).code).toBe(0);
    } finally {
      await hub.close();
    }
  });

  test('a port that is none is refused before a model is loaded', async () => {
    const { code, stderr } = await nibble(['serve', '--model-id', 'nowhere', '--port', '70000']);
    expect([code, stderr]).toEqual([2, 'nibble serve: --port is 70000; ports end at 65535\n']);
  });

  test('inspect tells what the demo model is', async () => {
    const { code, stdout } = await nibble(['inspect', join(DEMO_DIRECTORY, 'gptq-int4'), '--json']);
    expect(code).toBe(0);
    const { model_type, parameters, quantization, tensors, weight_bytes } = JSON.parse(stdout);
    const plain = JSON.parse((await nibble(['inspect', join(DEMO_DIRECTORY, 'f16'), '--json'])).stdout);
    expect([model_type, parameters]).toEqual(['llama', plain.parameters]);
    expect(quantization).toEqual({
      method: 'gptq',
      bits: 4,
      group_size: 64,
      desc_act: false,
      sym: true,
      checkpoint_format: 'gptq',
    });
    expect(plain.quantization).toBeNull();
    expect(plain.weight_bytes).toBe(2 * plain.parameters);
    expect(tensors.find(({ name }: { name: string }) => name.endsWith('q_proj.qweight'))).toMatchObject({
      dtype: 'I32',
      shape: [32, 256],
      bytes: 32768,
    });
    expect(weight_bytes).toBe(tensors.reduce((sum: number, { bytes }: { bytes: number }) => sum + bytes, 0));
  });

  test('inspect reads a lone file', async () => {
    const { stdout } = await nibble(['inspect', join(DEMO_DIRECTORY, 'f16', 'model.safetensors'), '--json']);
    expect(JSON.parse(stdout)).toMatchObject({ model_type: null, quantization: null });
  });

  test('generate takes ids where there is no tokenizer, and gives no text', async () => {
    const model = await mkdtemp(join(tmpdir(), 'nibble-untokenized-'));
    for (const file of ['config.json', 'model.safetensors'])
      await cp(join(DEMO_DIRECTORY, 'f16', file), join(model, file));
    const args = ['--max-new-tokens', '5', '--json', '--model-id'];
    const { stdout } = await nibble(['generate', '--ids', '0,426', ...args, model]);
    const whole = await nibble(['generate', '--ids', '0,426', ...args, join(DEMO_DIRECTORY, 'f16')]);
    expect(JSON.parse(stdout)).toMatchObject({ ids: JSON.parse(whole.stdout).ids, text: '' });
    const { code, stderr } = await nibble(['generate', '--prompt', 'Hello', ...args, model]);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/there is no tokenizer\.json/)]);
    await rm(model, { recursive: true });
  });

  test('generate is repeatable under a seed and says what it did', async () => {
    const args = [
      'generate',
      '--model-id',
      join(DEMO_DIRECTORY, 'gptq-int4'),
      '--prompt',
      'Once upon a time',
      '--temperature',
      '1',
      '--seed',
      '4',
      '--json',
    ];
    const [first, again] = [JSON.parse((await nibble(args)).stdout), JSON.parse((await nibble(args)).stdout)];
    expect(again.text).toBe(first.text);
    expect(first.ids).toHaveLength(20);
    expect(first.logprobs).toHaveLength(20);
    expect(first).toMatchObject({ backend: 'wasm', finish_reason: 'length' });
    const { bos_token_id } = JSON.parse(await readFile(join(DEMO_DIRECTORY, 'gptq-int4', 'config.json'), 'utf8'));
    expect(first.prompt_ids[0]).toBe(bos_token_id);
  });
});
