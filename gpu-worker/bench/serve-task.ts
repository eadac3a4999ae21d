/** ServeTask: `nibble bench serve`, what clients get from `nibble serve` without an edge: one process serves, this one asks. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Options } from '../command-line.ts';
import { freePort } from '../free-port.ts';
import { MODEL_FLAGS } from '../model-flags.ts';
import { commitOf, hostOf } from './device.ts';
import type { TaskCounts } from './model-tasks.ts';
import { type BenchReport, type BenchResult, rounded } from './report.ts';
import { median } from './rounds.ts';

const CLI = join(import.meta.dirname, '..', 'cli.ts');
const DEFAULT_MODEL = 'models/demo/gptq-int4';
/** A model of any size is loaded from any disk by then. */
const READY_MS = 1_800_000;
const WORD = ' once';

/** Milliseconds and tokens of one stream. */
interface Stream {
  firstTokenMs: number;
  wholeMs: number;
  tokens: number;
}

export async function benchServe(options: Options, counts: TaskCounts): Promise<BenchReport> {
  const { batches, rounds, newTokens, promptTokens } = counts;
  const model = options.text('model-id') ?? DEFAULT_MODEL;
  const server = await serve(options, model, Math.max(...batches));
  try {
    const results: BenchResult[] = [];
    for (const clients of batches) {
      const perSecond: number[] = [];
      const streams: Stream[] = [];
      // The first round warms up.
      for (let round = 0; round <= rounds; round++) {
        const started = performance.now();
        const own = await Promise.all(
          Array.from({ length: clients }, (_, i) => ask(server.url, promptTokens, newTokens, round * clients + i)),
        );
        if (round === 0) continue;
        const seconds = (performance.now() - started) / 1000;
        perSecond.push(own.reduce((sum, { tokens }) => sum + tokens, 0) / seconds);
        streams.push(...own);
      }
      const of = (name: string, value: number, unit: string) => ({
        name: `${clients} clients: ${name}`,
        value: rounded(value),
        unit,
      });
      const betweenMs = streams
        .filter(({ tokens }) => tokens > 1)
        .map((one) => (one.wholeMs - one.firstTokenMs) / (one.tokens - 1));
      results.push(
        of('tokens a second', median(perSecond), 'tokens/s'),
        of('first token', median(streams.map(({ firstTokenMs }) => firstTokenMs)), 'ms'),
        ...(betweenMs.length === 0 ? [] : [of('between tokens', median(betweenMs), 'ms')]),
      );
    }
    return {
      task: 'serve',
      device: hostOf(),
      commit: commitOf(),
      backend: server.backend,
      settings: { model, rounds, 'new tokens at most': newTokens, 'words of a prompt': promptTokens },
      results,
      ratios: {},
      peers: [],
    };
  } finally {
    await server.stop();
  }
}

/** The server as a user starts it, with the flags that this bench was given; resolves when it is ready. */
async function serve(options: Options, model: string, batch: number) {
  const port = await freePort();
  const flags = [
    '--model-id',
    model,
    '--hostname',
    '127.0.0.1',
    '--port',
    String(port),
    '--max-batch-size',
    String(batch),
  ];
  for (const [name, flag] of Object.entries(MODEL_FLAGS)) {
    if (name === 'model-id' || !options.given(name)) continue;
    if (flag.kind === 'switch') flags.push(`--${name}`);
    else if (flag.kind === 'toggle') flags.push(options.toggle(name) ? `--${name}` : `--no-${name}`);
    else flags.push(`--${name}`, String(options.text(name)));
  }
  const child = spawn(process.execPath, [CLI, 'serve', ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-2000);
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async () => {
    child.kill('SIGTERM');
    await ended;
  };
  const url = `http://127.0.0.1:${port}`;
  for (const until = performance.now() + READY_MS; ; await sleep(100)) {
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}: ${said.trim()}`);
    const health = await fetch(`${url}/health`).catch(() => null);
    await health?.body?.cancel();
    if (health?.status === 200) break;
    if (performance.now() < until) continue;
    await stop();
    throw new Error(`the server was not ready within ${READY_MS / 60_000} minutes: ${said.trim()}`);
  }
  const first = await fetch(`${url}/generate`, request(1, 1, 0));
  await first.text();
  return { url, stop, backend: first.headers.get('x-nibble-backend') ?? '' };
}

async function ask(url: string, promptTokens: number, newTokens: number, seed: number): Promise<Stream> {
  const started = performance.now();
  const response = await fetch(`${url}/generate_stream`, request(promptTokens, newTokens, seed));
  let text = '';
  let firstTokenMs = Number.NaN;
  for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
    if (Number.isNaN(firstTokenMs) && part.includes('"token"')) firstTokenMs = performance.now() - started;
    text += part;
  }
  const tokens = text.split('"token":').length - 1;
  if (response.status !== 200 || tokens === 0)
    throw new Error(`/generate_stream answered ${response.status}: ${text.slice(0, 300)}`);
  return { firstTokenMs, wholeMs: performance.now() - started, tokens };
}

/** A prompt of so many words, in most vocabularies a token each. */
function request(words: number, newTokens: number, seed: number): RequestInit {
  const parameters = { max_new_tokens: newTokens, do_sample: true, seed };
  return {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ inputs: `Once${WORD.repeat(Math.max(0, words - 1))}`, parameters }),
  };
}
