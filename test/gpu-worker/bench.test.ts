import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { failureOf } from '../../core/errors.ts';
import { parseOptions } from '../../gpu-worker/command-line.ts';
import { bench } from '../../gpu-worker/commands/bench.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const TINY = '64,2,96,4,2,320';

/** `nibble bench …` in a process of its own. */
async function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  try {
    const { stdout, stderr } = await promisify(execFile)(join(ROOT, 'bin', 'nibble'), ['bench', ...args]);
    return { code: 0, stdout, stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, stdout, stderr };
  }
}

async function refusal(...args: string[]): Promise<string> {
  try {
    await bench.run(parseOptions(bench, args, {}));
  } catch (error) {
    const failure = failureOf(error);
    return failure.code === 'usage' ? failure.reason : `not a usage failure: ${failure.code}`;
  }
  return 'accepted';
}

interface Report {
  task: string;
  device: string;
  commit: string;
  backend: string;
  results: { name: string; value: number; unit: string }[];
  ratios: Record<string, number>;
  peers: unknown[];
}

function reportOf(stdout: string): Report {
  const report = JSON.parse(stdout) as Report;
  for (const { name, value, unit } of report.results) {
    expect(name).not.toBe('');
    expect(value, name).toBeGreaterThan(0);
    expect(unit, name).not.toBe('');
  }
  expect(report.device).toContain(`Node ${process.versions.node}`);
  expect(report.commit).toMatch(/^[0-9a-f]{12}(-dirty)?$|^unknown$/);
  return report;
}

const numberOf = ({ results }: Report, name: string): number => results.find((result) => result.name === name)!.value;

describe('nibble bench', () => {
  test('decode gives one JSON document with a rate for every batch', async () => {
    const args = [
      '--shape',
      TINY,
      '--group-size',
      '32',
      '--batch',
      '1,3',
      '--new-tokens',
      '8',
      '--rounds',
      '3',
      '--json',
    ];
    const { code, stdout } = await run('decode', ...args);
    expect(code).toBe(0);
    const report = reportOf(stdout);
    expect([report.task, report.backend, report.ratios, report.peers]).toEqual(['decode', 'wasm', {}, []]);
    // Weights are read once a step, keys and values once a sequence.
    expect(numberOf(report, 'weights read a step, batch 3')).toBe(numberOf(report, 'weights read a step, batch 1'));
    expect(numberOf(report, 'keys and values read a step, batch 3')).toBe(
      3 * numberOf(report, 'keys and values read a step, batch 1'),
    );
    const [rate, step] = [numberOf(report, 'decode, batch 3'), numberOf(report, 'step, batch 3')];
    expect((rate * step) / 3 / 1000).toBeCloseTo(1, 2);
  });

  test.each([
    ['decode', '--new-tokens'],
    ['prefill', '--prompt-tokens'],
  ])('%s on several threads is measured in turn with one', async (task, tokens) => {
    const args = ['--shape', TINY, tokens, '8', '--rounds', '1', '--threads', '2', '--json'];
    const { code, stdout } = await run(task, ...args);
    expect(code).toBe(0);
    const report = reportOf(stdout);
    const alone = report.results.filter(({ name }) => name === `${task}, one thread`);
    expect(report.device).toContain('2 threads');
    expect(alone).toHaveLength(1);
    expect(Object.keys(report.ratios)).toEqual(['one thread']);
  });

  test('decode takes a checkpoint too, and a profile names its ops', async () => {
    const args = ['--model-id', 'models/demo/gptq-int4', '--new-tokens', '4', '--rounds', '1', '--profile', '--json'];
    const { code, stdout } = await run('decode', ...args);
    expect(code).toBe(0);
    const report = reportOf(stdout);
    const names = report.results.map(({ name }) => name).filter((name) => name.startsWith('profile'));
    // 4 tokens of one sequence, one choice each.
    expect(names.filter((name) => name.startsWith('profile, 4 times top'))).toHaveLength(1);
    expect(names.some((name) => name.includes('times linear'))).toBe(true);
  });

  test('prefill gives tokens and operations a second, of which the one follows from the other', async () => {
    const args = ['--shape', TINY, '--weights', 'dense', '--prompt-tokens', '48', '--rounds', '1', '--json'];
    const { code, stdout } = await run('prefill', ...args);
    expect(code).toBe(0);
    const report = reportOf(stdout);
    // Two layers of q [64, 64], k, v [32, 64] for every token; o [64, 64], gate, up, down [96, 64] in the last one and the head [320, 64] once.
    const operations = 2 * (2 * 48 * (64 * 64 + 2 * 32 * 64) + 49 * (64 * 64 + 3 * 96 * 64) + 320 * 64);
    const seconds = numberOf(report, 'prompt') / 1000;
    expect(numberOf(report, 'matrix products') / (operations / seconds / 1e12)).toBeCloseTo(1, 2);
  });

  test('kernels gives every matrix of the shape a time and a part of the limit measured in the same run', async () => {
    const args = ['--shape', TINY, '--group-size', '32', '--context', '32', '--prompt-tokens', '16', '--json'];
    const { code, stdout } = await run('kernels', ...args);
    expect(code).toBe(0);
    const report = reportOf(stdout);
    for (const matrix of ['q,o 1x64 -> 64', 'k,v 1x64 -> 32', 'gate,up 1x64 -> 96', 'down 1x96 -> 64']) {
      const name = `linear gptq4-g32 ${matrix}`;
      expect(numberOf(report, `${name}: time`)).toBeGreaterThan(0);
      expect(report.results.some((result) => result.name.startsWith(`${name}: of the `))).toBe(true);
    }
    for (const op of [
      'attention decode',
      'attention prefill',
      'add_rms_norm 16x64',
      'rope_kv',
      'gated silu',
      'top 1x320',
    ])
      expect(report.results.filter(({ name }) => name.startsWith(op)).length, op).toBeGreaterThan(0);
    expect(report.results.filter(({ name }) => name.startsWith('limit, ')).map(({ unit }) => unit)).toEqual([
      'GB/s',
      'TFLOP/s',
    ]);
  });

  test('serve measures a server of its own, as clients see it', async () => {
    const args = ['--batch', '1,2', '--rounds', '1', '--prompt-tokens', '8', '--new-tokens', '4', '--backend', 'wasm'];
    const { code, stdout, stderr } = await run('serve', ...args, '--json');
    expect([code, stderr]).toEqual([0, '']);
    const report = reportOf(stdout);
    expect(report.backend).toBe('wasm');
    expect(report.results.map(({ name }) => name)).toEqual(
      ['1 clients', '2 clients'].flatMap((who) => [
        `${who}: tokens a second`,
        `${who}: first token`,
        `${who}: between tokens`,
      ]),
    );
  });

  test.each([
    [['speed'], 'there is no bench "speed"; it is one of decode, prefill, serve, kernels, edge'],
    [
      ['decode', '--shape', '64,2,96'],
      '--shape is "64,2,96"; six whole numbers above 0 are needed: hidden,layers,ffn,heads,kvHeads,vocab',
    ],
    [
      ['decode', '--shape', '64,2,96,4,2,0'],
      '--shape is "64,2,96,4,2,0"; six whole numbers above 0 are needed: hidden,layers,ffn,heads,kvHeads,vocab',
    ],
    [
      ['decode', '--shape', '64,2,96,4,2,1e3'],
      '--shape is "64,2,96,4,2,1e3"; six whole numbers above 0 are needed: hidden,layers,ffn,heads,kvHeads,vocab',
    ],
    [['decode', '--shape', '64,2,96,5,5,320'], '--shape: hidden 64 is not a multiple of 5 heads'],
    [['decode', '--shape', '64,2,96,4,3,320'], '--shape: 4 heads are not a multiple of 3 kvHeads'],
    [['decode', '--shape', '12,2,96,4,4,320'], '--shape: heads of 3 channels; rotation needs an even number'],
    [
      ['decode', '--shape', '64,2,97,4,4,320'],
      'layers.0.gate [97, 64] in 4 bits does not fill 32-bit words; choose another --shape or --bits',
    ],
    [['prefill', '--batch', '2'], '--batch is not for bench prefill'],
    [['decode', '--quantize', 'none'], '--quantize is for --model-id; random weights are stored as --weights says'],
    [['decode', '--rivals', 'wllama'], '--rivals goes with --peers'],
    [['decode', '--bits', '5'], '--bits is 5; it is one of 2, 3, 4, 8'],
    [['decode', '--weights', 'nf4', '--bits', '4'], '--bits is for --weights gptq, not nf4'],
    [['decode', '--batch', '1,0'], '--batch is "1,0"; whole numbers above 0 are needed, as 1,16'],
    [['kernels', '--model-id', 'models/demo/gptq-int4'], '--model-id is not for bench kernels'],
    [
      ['decode', '--model-id', 'models/demo/gptq-int4', '--bits', '4'],
      '--bits is for random weights; --model-id has its own',
    ],
  ])('%j is refused: %s', async (args, reason) => {
    expect(await refusal(...args)).toBe(reason);
  });
});
