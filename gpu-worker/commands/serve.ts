/** Serve: a worker that loads a model, links to the edge and answers its jobs until it is told to drain. */
import { randomUUID } from 'node:crypto';
import process from 'node:process';
import { Engine } from '../../core/engine/engine.ts';
import { NibbleError } from '../../core/errors.ts';
import type { Frame } from '../../core/protocol.ts';
import { type Command, type Options, usage } from '../command-line.ts';
import { Journal } from '../journal.ts';
import { kvSize } from '../kv-size.ts';
import { Links } from '../links.ts';
import { loadModel } from '../loader.ts';
import { kvDtypeOf, MODEL_FLAGS, PENDING_MODEL_FLAGS } from '../model-flags.ts';
import { Worker } from '../worker.ts';

const DEFAULT_SLOTS = 32;
const DEFAULT_DRAIN_S = 90;

export const serve: Command = {
  name: 'serve',
  summary: 'a worker: loads a model, links to the edge, runs its jobs',
  positionals: [],
  flags: {
    ...MODEL_FLAGS,
    edge: { kind: 'text', value: 'URL', help: 'the edge to link to', env: 'EDGE' },
    token: { kind: 'text', value: 'TOKEN', help: 'a key with the scope worker', env: 'TOKEN' },
    'served-model-name': {
      kind: 'text',
      value: 'NAME',
      help: "the model's name at the edge (the directory's name)",
      env: 'SERVED_MODEL_NAME',
    },
    'max-concurrent-requests': {
      kind: 'integer',
      minimum: 1,
      help: `jobs at once (${DEFAULT_SLOTS})`,
      env: 'MAX_CONCURRENT_REQUESTS',
    },
    'max-batch-prefill-tokens': {
      kind: 'integer',
      minimum: 1,
      help: 'tokens in one step (512)',
      env: 'MAX_BATCH_PREFILL_TOKENS',
    },
    'max-batch-total-tokens': {
      kind: 'integer',
      minimum: 16,
      help: 'tokens that the key/value cache holds (all slots full, as far as memory allows)',
      env: 'MAX_BATCH_TOTAL_TOKENS',
    },
    'graceful-termination-timeout': {
      kind: 'integer',
      minimum: 0,
      help: `seconds to finish running jobs on SIGTERM (${DEFAULT_DRAIN_S})`,
      env: 'GRACEFUL_TERMINATION_TIMEOUT',
    },
    journal: {
      kind: 'text',
      value: 'FILE',
      help: 'append what was produced, by job, lease and position, as JSON lines: for "nibble reconcile"',
      env: 'JOURNAL',
    },
  },
  pending: [
    ...PENDING_MODEL_FLAGS,
    'max-input-tokens',
    'max-total-tokens',
    'max-waiting-tokens',
    'hostname',
    'port',
    'api-key',
  ],
  examples: ['nibble serve --model-id models/demo/gptq-int4 --edge http://localhost:8787 --token nbl_…'],
  run,
};

async function run(options: Options): Promise<void> {
  const hadChannel = process.connected;
  const edge = options.text('edge');
  if (edge === null) throw usage('--edge is missing; serving without an edge is not supported yet');
  if (!URL.canParse(edge) || !/^https?:$/.test(new URL(edge).protocol))
    throw usage(`--edge is "${edge}"; an http(s) URL is needed`);
  const token = options.required('token');
  const log = (line: string) => process.stderr.write(`${new Date().toISOString()} ${line}\n`);

  const model = await loadModel(options);
  const { config, tokenizer, template } = model;
  let { graph, backend } = model;
  const slots = options.number('max-concurrent-requests') ?? DEFAULT_SLOTS;
  const kv = await kvSize(config, backend, {
    slots,
    given: options.number('max-batch-total-tokens'),
    dtype: kvDtypeOf(options),
  });
  const card = model.card(options.text('served-model-name') ?? model.baseName, kv.contextTokens);
  const engine = new Engine(graph, tokenizer, template, {
    maxSequences: slots,
    maxBatchTokens: Math.max(slots, options.number('max-batch-prefill-tokens') ?? 512),
    maxCachedTokens: kv.tokens,
    kvDtype: kv.dtype,
  });
  log(
    `${card.id}: ${card.parameters} parameters, ${card.quantization ?? 'not quantized'}, on ${backend.name}; ${slots} slots, ${kv.tokens} tokens of cache`,
  );

  const ended = Promise.withResolvers<void>();
  const workerId = randomUUID();
  const path = options.text('journal');
  const journal =
    path === null
      ? null
      : new Journal(path, {
          worker: workerId,
          model: card.id,
          backend: backend.name,
          started: new Date().toISOString(),
        });
  const links = new Links({ edge, token, workerId, backend: backend.name, model: card, log }, slots, {
    onLease: (job, epoch, emittedIds) => worker.lease(job, epoch, emittedIds),
    onCancel: (jobId) => worker.cancel(jobId),
    onLinked: () => {
      log(`linked to ${edge} as ${card.id}`);
      process.send?.({ type: 'linked', model: card.id });
    },
    onRefused: (error: NibbleError) => ended.reject(error),
  });
  const send = (frames: Frame[]) => {
    journal?.append(frames);
    links.send(frames);
  };
  const worker = new Worker(engine, send, log, {
    reload: async () => {
      await backend.dispose();
      ({ graph, backend } = await loadModel(options));
      return graph;
    },
    onBroken: (failure) => ended.reject(new NibbleError(failure)),
  });
  links.connect();

  const drainMs = 1000 * (options.number('graceful-termination-timeout') ?? DEFAULT_DRAIN_S);
  let draining = false;
  const drain = async () => {
    if (draining) {
      ended.resolve();
      return;
    }
    draining = true;
    log(`draining: ${engine.numJobs} jobs, at most ${drainMs / 1000} s`);
    links.drain();
    const timeout = setTimeout(() => ended.resolve(), drainMs);
    await worker.idle();
    clearTimeout(timeout);
    ended.resolve();
  };
  process.on('SIGTERM', drain);
  process.on('SIGINT', drain);
  // Started by another program with a channel: its end is a reason to stop at once, also when it came while the model was loaded.
  process.on('disconnect', () => ended.resolve());
  if (hadChannel && !process.connected) ended.resolve();
  try {
    await ended.promise;
  } finally {
    links.close();
    worker.cancelAll();
    await worker.idle();
    await backend.dispose();
    journal?.close();
  }
}
