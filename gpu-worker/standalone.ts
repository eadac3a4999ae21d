/** Standalone: `nibble serve` without an edge: the edge's own HTTP surfaces on Node, over the engine in this process. */
import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { type AddressInfo, isIP } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout } from 'node:timers/promises';
import { createAdaptorServer } from '@hono/node-server';
import { NibbleError } from '../core/errors.ts';
import { createApi } from '../edge/api/app.ts';
import { MAX_STOPS } from '../edge/api/openai-schema.ts';
import { type Options, usage } from './command-line.ts';
import { openServedModel, type ServedModel } from './served-model.ts';
import { DEFAULT_BATCH_SIZE, DEFAULT_CONCURRENT_REQUESTS, DEFAULT_HOSTNAME, DEFAULT_PORT } from './standalone/flags.ts';
import { Metrics } from './standalone/metrics.ts';
import { type Info, ownRoutes } from './standalone/routes.ts';
import { StandaloneService } from './standalone/service.ts';

const DEFAULT_DRAIN_S = 90;
const MAX_PORT = 65_535;
/** For error events to reach clients after the drain's end. */
const FAREWELL_MS = 1000;
/** Statuses of answers to what never was a request for a text, and to what was a wrong one. */
const NO_REQUEST = new Set([401, 404, 405]);
const INVALID = new Set([400, 413, 415, 422]);

/** Serves until SIGTERM or SIGINT, then until the last answer or --graceful-termination-timeout. Throws when it cannot listen, or when the device is gone. */
export async function serveStandalone(options: Options): Promise<void> {
  for (const name of ['token', 'journal'])
    if (options.given(name)) throw usage(`--${name} is for an edge; --edge is missing`);
  const hostname =
    options.text('hostname') ?? (isIP(process.env.HOSTNAME ?? '') ? process.env.HOSTNAME! : DEFAULT_HOSTNAME);
  const apiKey = options.text('api-key');
  if (apiKey === '') throw usage('--api-key is empty; leave it out to ask for no key');
  const port = options.number('port') ?? DEFAULT_PORT;
  if (port > MAX_PORT) throw usage(`--port is ${port}; ports end at ${MAX_PORT}`);
  const maxConcurrentRequests = options.number('max-concurrent-requests') ?? DEFAULT_CONCURRENT_REQUESTS;
  const slots = Math.min(maxConcurrentRequests, options.number('max-batch-size') ?? DEFAULT_BATCH_SIZE);
  const log = (line: string) => process.stderr.write(`${new Date().toISOString()} ${line}\n`);

  const batches: { metrics: Metrics | null } = { metrics: null };
  const model = await openServedModel(options, slots, log, (chunks) => batches.metrics?.batch(chunks));
  const info = infoOf(model, maxConcurrentRequests);
  const metrics = new Metrics({ maxInputTokens: info.max_input_tokens, maxTotalTokens: info.max_total_tokens }, () =>
    performance.now(),
  );
  batches.metrics = metrics;
  const ended = Promise.withResolvers<void>();
  const service = new StandaloneService(model, {
    apiKey,
    maxConcurrentRequests,
    log,
    metrics,
    onBroken: (failure) => ended.reject(new NibbleError(failure)),
  });
  const server = createAdaptorServer({
    fetch: handlerOf(service, model, info, metrics),
    overrideGlobalObjects: false,
  }) as Server;
  let stopping = false;
  const stop = () => {
    // Whoever asks twice is not kept waiting.
    if (stopping) process.exit(1);
    stopping = true;
    ended.resolve();
  };
  try {
    const url = await listen(server, hostname, port);
    log(`serving ${model.card.id} on ${url}${apiKey === null ? ', without a key' : ''}`);
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
    process.on('disconnect', () => ended.resolve());
    process.send?.({ type: 'listening', url });
    await ended.promise;
  } finally {
    const drainMs = 1000 * (options.number('graceful-termination-timeout') ?? DEFAULT_DRAIN_S);
    log(`draining: ${model.engine.numJobs} requests, at most ${drainMs / 1000} s`);
    await close(server, service, drainMs);
    await model.dispose();
  }
}

function handlerOf(service: StandaloneService, model: ServedModel, info: Info, metrics: Metrics) {
  const resolve = () => service;
  const api = createApi(resolve, () => service.isHealthy());
  const { engine, cacheTokens } = model;
  const families = () => {
    const { numWaiting } = engine;
    return metrics.families({ numWaiting, numRunning: engine.numJobs - numWaiting, cacheTokens });
  };
  api.route('/', ownRoutes(resolve, info, families));
  return async (request: Request): Promise<Response> => {
    const response = await api.fetch(request);
    if (request.method === 'POST' && !NO_REQUEST.has(response.status)) metrics.requested();
    if (request.method === 'POST' && INVALID.has(response.status)) metrics.invalid();
    return response;
  };
}

async function listen(server: Server, hostname: string, port: number): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, hostname, resolve);
  }).catch((error: NodeJS.ErrnoException) => {
    const why = error.code === 'EADDRINUSE' ? 'the port is taken by another program' : error.message;
    throw usage(`cannot listen on ${hostname} port ${port}: ${why}; see --hostname and --port`);
  });
  const { address, family, port: bound } = server.address() as AddressInfo;
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`;
}

/** No new connections and no new requests; running ones end well or, after `drainMs`, with an error that says why. */
async function close(server: Server, service: StandaloneService, drainMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  await Promise.race([service.drain(), setTimeout(drainMs, undefined, { ref: false })]);
  await service.stop();
  const deadline = performance.now() + FAREWELL_MS;
  // A connection whose last answer just left is idle now; one that a client keeps open for more is not waited for.
  while (performance.now() < deadline) {
    server.closeIdleConnections();
    if (await Promise.race([closed.then(() => true), setTimeout(20, false)])) return;
  }
  server.closeAllConnections();
}

function infoOf({ card, maxPromptTokens }: ServedModel, maxConcurrentRequests: number): Info {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8'));
  return {
    model_id: card.id,
    model_sha: null,
    model_pipeline_tag: 'text-generation',
    max_concurrent_requests: maxConcurrentRequests,
    max_best_of: 1,
    max_stop_sequences: MAX_STOPS,
    max_input_tokens: maxPromptTokens,
    max_total_tokens: card.contextTokens,
    validation_workers: 1,
    max_client_batch_size: 1,
    router: 'nibble',
    version,
    sha: null,
    docker_label: process.env.DOCKER_LABEL ?? null,
  };
}
