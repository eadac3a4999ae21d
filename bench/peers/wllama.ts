/** wllama: llama.cpp compiled to WebAssembly, where it runs: in a headless Chromium, which comes from npm too. */
import { createReadStream, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { openBrowser, type Page } from './browser.ts';
import { ensureGguf } from './gguf.ts';
import { servePeer } from './peer.ts';

const PACKAGE = join(import.meta.dirname, 'node_modules', '@wllama', 'wllama', 'esm');

/** What llama.cpp's server says of an answer. */
interface Timings {
  prompt_n: number;
  prompt_ms: number;
  predicted_n: number;
  predicted_ms: number;
}

await servePeer(async ({ shape, threads, contextTokens, cacheDirectory }) => {
  const { path, weightBytes } = ensureGguf(shape, cacheDirectory);
  // The browser unpacks itself into the temporary directory.
  const folder = join(cacheDirectory, 'browser');
  await mkdir(folder, { recursive: true });
  process.env.TMPDIR = folder;
  const server = await serveFiles({
    '/index.js': join(PACKAGE, 'index.js'),
    '/wllama.wasm': join(PACKAGE, 'wasm', 'wllama.wasm'),
    '/model.gguf': path,
  });
  const browser = await openBrowser();
  const page: Page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  await page.evaluate(`(async () => {
    const { Wllama, LoggerWithoutDebug } = await import('/index.js');
    globalThis.wllama = new Wllama({ default: location.origin + '/wllama.wasm' }, { logger: LoggerWithoutDebug, suppressNativeLog: true });
    const model = await (await fetch('/model.gguf')).blob();
    await wllama.loadModel([model], {
      n_ctx: ${contextTokens + 8}, n_batch: 512, n_ubatch: 512, n_threads: ${threads}, n_gpu_layers: 0, n_parallel: 1, warmup: false,
    });
  })()`);
  const used = await page.evaluate('wllama.getNumThreads()');
  if (used !== threads) throw new Error(`${threads} threads were asked for and ${used} came`);
  let runs = 0;

  const complete = async (promptTokens: number, newTokens: number): Promise<Timings> => {
    // Another prompt each time, so that nothing is left in a cache. The server's own clock: what the page's messages cost is not counted.
    const options = {
      prompt: promptText(promptTokens, runs++),
      max_tokens: newTokens,
      temperature: 0,
      top_k: 1,
      ignore_eos: true,
      cache_prompt: false,
    };
    const timings = await page.evaluate(
      `wllama.createCompletion(${JSON.stringify(options)}).then((answer) => answer.timings)`,
    );
    const { prompt_n: read, predicted_n: made } = timings as Timings;
    if (Math.abs(read - promptTokens) > 1 || made !== newTokens)
      throw new Error(`${promptTokens} + ${newTokens} tokens were asked for and ${read} + ${made} came`);
    return timings as Timings;
  };

  return {
    version: `@wllama/wllama 3.8.1, Q4_0, ${threads} thread${threads === 1 ? '' : 's'}, ${browser.version}`,
    weightBytes,
    async run(task) {
      if (task.kind === 'decode') {
        // The clock starts with the first token, which is counted.
        const { predicted_n: made, predicted_ms: ms } = await complete(Math.max(1, task.context), task.steps + 1);
        return ((made - 1) * 1000) / ms;
      }
      if (task.kind === 'prefill') {
        const { prompt_n: read, prompt_ms: ms } = await complete(task.tokens, 1);
        return (read * 1000) / ms;
      }
      throw new Error(`there is no ${task.kind} here`);
    },
    async close() {
      await browser.close();
      server.close();
    },
  };
});

/** A text of so many tokens (one off for 2): the beginning and, before anything else, a space; then digits and capitals, which the vocabulary has as bytes only. */
function promptText(tokens: number, seed: number): string {
  const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ';
  return Array.from({ length: Math.max(0, tokens - 2) }, (_, i) => alphabet[(i * 7 + seed) % alphabet.length]).join('');
}

/** Just these paths, and an empty page at /, isolated so that threads are allowed. */
async function serveFiles(files: Readonly<Record<string, string>>): Promise<Server> {
  const types: Readonly<Record<string, string>> = { js: 'text/javascript', wasm: 'application/wasm' };
  const server = createServer((request, response) => {
    const path = request.url ?? '/';
    response.setHeader('cross-origin-opener-policy', 'same-origin');
    response.setHeader('cross-origin-embedder-policy', 'require-corp');
    const file = files[path];
    if (file === undefined) {
      response.writeHead(path === '/' ? 200 : 404, { 'content-type': 'text/html' }).end('<!doctype html>');
      return;
    }
    const type = types[path.split('.').at(-1)!] ?? 'application/octet-stream';
    response.writeHead(200, { 'content-type': type, 'content-length': statSync(file).size });
    createReadStream(file).pipe(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}
