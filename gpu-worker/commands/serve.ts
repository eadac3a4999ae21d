/** Serve: a worker that loads a model, links to the edge and answers its jobs until it is told to drain; without an edge it serves HTTP itself. */
import { randomUUID } from 'node:crypto';
import process from 'node:process';
import { NibbleError } from '../../core/errors.ts';
import type { Frame } from '../../core/protocol.ts';
import { type Command, type Options, usage } from '../command-line.ts';
import { Journal } from '../journal.ts';
import { Links } from '../links.ts';
import { MODEL_FLAGS } from '../model-flags.ts';
import { openServedModel } from '../served-model.ts';
import { DEFAULT_CONCURRENT_REQUESTS, PENDING_TGI_FLAGS, STANDALONE_FLAGS } from '../standalone/flags.ts';
import { Worker } from '../worker.ts';

const DEFAULT_SLOTS = 32;
const DEFAULT_DRAIN_S = 90;

export const serve: Command = {
  name: 'serve',
  summary: 'loads a model and runs jobs of the edge, or serves HTTP itself',
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
      help: `with an edge: jobs at once (${DEFAULT_SLOTS}); without: requests that run or wait, one more is a 429 (${DEFAULT_CONCURRENT_REQUESTS})`,
      env: 'MAX_CONCURRENT_REQUESTS',
    },
    ...STANDALONE_FLAGS,
    'max-input-tokens': {
      kind: 'integer',
      minimum: 1,
      help: 'tokens of a prompt (one less than --max-total-tokens)',
      env: 'MAX_INPUT_TOKENS',
      synonyms: ['max-input-length'],
    },
    'max-total-tokens': {
      kind: 'integer',
      minimum: 2,
      help: "tokens of prompt and answer (the model's context, as far as the cache holds it)",
      env: 'MAX_TOTAL_TOKENS',
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
  pending: PENDING_TGI_FLAGS,
  examples: [
    'nibble serve --model-id models/demo/gptq-int4 --edge http://localhost:8787 --token nbl_…',
    'nibble serve --model-id models/demo/gptq-int4 --port 8080 --api-key secret',
  ],
  run,
};

async function run(options: Options): Promise<void> {
  const hadChannel = process.connected;
  const edge = options.text('edge');
  if (edge === null) {
    // The HTTP surfaces and their libraries are loaded where they are used.
    const { serveStandalone } = await import('../standalone.ts');
    return serveStandalone(options);
  }
  for (const name of Object.keys(STANDALONE_FLAGS))
    if (options.given(name)) throw usage(`--${name} is for serving without an edge; --edge is given`);
  if (!URL.canParse(edge) || !/^https?:$/.test(new URL(edge).protocol))
    throw usage(`--edge is "${edge}"; an http(s) URL is needed`);
  const token = options.required('token');
  const log = (line: string) => process.stderr.write(`${new Date().toISOString()} ${line}\n`);

  const slots = options.number('max-concurrent-requests') ?? DEFAULT_SLOTS;
  const model = await openServedModel(options, slots, log);
  const { card, engine } = model;

  const ended = Promise.withResolvers<void>();
  const workerId = randomUUID();
  const path = options.text('journal');
  const journal =
    path === null
      ? null
      : new Journal(path, {
          worker: workerId,
          model: card.id,
          backend: model.backendName,
          started: new Date().toISOString(),
        });
  const links = new Links({ edge, token, workerId, backend: model.backendName, model: card, log }, slots, {
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
    reload: () => model.reload(),
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
    await model.dispose();
    journal?.close();
  }
}
