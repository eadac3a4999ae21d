/** Generate: one answer in the terminal, no edge. */
import { randomInt } from 'node:crypto';
import process from 'node:process';
import { Engine } from '../../core/engine/engine.ts';
import { NibbleError } from '../../core/errors.ts';
import type { Backend, KernelTime, Measurable } from '../../core/model/backend.ts';
import type { FinishReason, Input, Job } from '../../core/protocol.ts';
import { type Command, type Options, usage } from '../command-line.ts';
import { kvSize } from '../kv-size.ts';
import { loadModel } from '../loader.ts';
import { JSON_FLAG, kvDtypeOf, MODEL_FLAGS } from '../model-flags.ts';
import { profileTable } from '../profile-table.ts';

export const generate: Command = {
  name: 'generate',
  summary: 'generate text on this machine, without an edge',
  positionals: [],
  flags: {
    ...MODEL_FLAGS,
    prompt: { kind: 'text', value: 'TEXT', help: 'the prompt, continued as it stands' },
    chat: { kind: 'text', value: 'TEXT', help: "one user message, put into the model's chat template" },
    ids: { kind: 'text', value: '1,403', help: 'the prompt as token ids' },
    'max-new-tokens': { kind: 'integer', minimum: 1, help: 'tokens to generate at most (20)' },
    temperature: { kind: 'number', minimum: 0, help: 'sample at this temperature; greedy without sampling flags' },
    'top-k': { kind: 'integer', minimum: 1, help: 'sample among the k likeliest' },
    'top-p': { kind: 'number', minimum: 0, help: 'sample among the likeliest that hold this probability' },
    seed: { kind: 'integer', minimum: 0, help: 'makes sampling repeatable (random)' },
    'ignore-eos': { kind: 'switch', help: 'go on past the end-of-sequence token' },
    profile: { kind: 'switch', help: 'time of every GPU kernel on stderr; each then runs alone' },
    json: JSON_FLAG,
  },
  pending: [],
  examples: [
    'nibble generate --model-id models/demo/gptq-int4 --chat "Tell me a story about a fox named Milo" --max-new-tokens 200',
    'nibble generate --model-id models/demo/f16 --prompt "Once upon a time" --temperature 0.8 --seed 1 --json',
  ],
  run,
};

async function run(options: Options): Promise<void> {
  const input = inputOf(options);
  const model = await loadModel(options, input.kind === 'ids' ? 'optional' : 'needed');
  const { config, graph, tokenizer, template, backend } = model;
  const dtype = kvDtypeOf(options);
  const kv = await kvSize(config, backend, { slots: 1, given: null, dtype });
  const engine = new Engine(graph, tokenizer, template, {
    maxBatchTokens: 512,
    maxSequences: 1,
    maxCachedTokens: kv.tokens,
    kvDtype: kv.dtype,
  });
  const accepted = engine.add(jobOf(options, input, config.contextTokens), []);
  if ('code' in accepted) throw new NibbleError(accepted);

  const streams = !options.on('json');
  const ids: number[] = [];
  const logprobs: (number | null)[] = [];
  let text = '';
  let reason: FinishReason | null = null;
  const emit = (piece: string) => {
    text += piece;
    if (streams) process.stdout.write(piece);
  };
  const startedMs = performance.now();
  let firstTokenMs = startedMs;
  const answer = async () => {
    while (engine.numJobs > 0)
      for (const event of await engine.step()) {
        switch (event.kind) {
          case 'token':
            if (ids.length === 0) firstTokenMs = performance.now();
            ids.push(event.token.id);
            logprobs.push(event.token.logprob);
            emit(event.token.text);
            break;
          case 'finished':
            emit(event.text);
            reason = event.reason;
            break;
          case 'failed':
            throw new NibbleError(event.failure);
          default:
            event satisfies never;
        }
      }
  };
  if (options.on('profile')) process.stderr.write(profileTable(await profiled(backend, answer)));
  else await answer();
  const endMs = performance.now();
  const perSecond = (tokens: number, ms: number) =>
    ms > 0 && tokens > 0 ? Number(((tokens * 1000) / ms).toFixed(1)) : 0;
  const promptRate = perSecond(accepted.promptIds.length, firstTokenMs - startedMs);
  const decodeRate = perSecond(ids.length - 1, endMs - firstTokenMs);
  const backendName = backend.name;
  await backend.dispose();
  if (streams) {
    process.stdout.write('\n');
    process.stderr.write(
      `${accepted.promptIds.length} prompt tokens at ${promptRate}/s, ${ids.length} new at ${decodeRate}/s (${reason}) on ${backendName}\n`,
    );
    return;
  }
  console.log(
    JSON.stringify({
      prompt_ids: accepted.promptIds,
      ids,
      text,
      logprobs,
      finish_reason: reason,
      backend: backendName,
      prompt_tokens_per_s: promptRate,
      decode_tokens_per_s: decodeRate,
    }),
  );
}

/** Runs on a backend that times its kernels. */
function profiled(backend: Backend, run: () => Promise<void>): Promise<KernelTime[]> {
  const { profile } = backend as Backend & Partial<Measurable>;
  if (profile === undefined) throw usage(`--profile is for --backend webgpu; this runs on ${backend.name}`);
  return profile.call(backend, run);
}

function inputOf(options: Options): Input {
  const [prompt, chat, ids] = [options.text('prompt'), options.text('chat'), options.text('ids')];
  if ([prompt, chat, ids].filter((given) => given !== null).length !== 1)
    throw usage('give exactly one of --prompt, --chat and --ids');
  if (prompt !== null) return { kind: 'text', text: prompt, specialTokens: 'add' };
  if (chat !== null) return { kind: 'chat', messages: [{ role: 'user', content: chat }] };
  const numbers = ids!.split(',').map((id) => (/^\s*\d+\s*$/.test(id) ? Number(id) : Number.NaN));
  if (numbers.some((id) => !Number.isSafeInteger(id)))
    throw usage(`--ids is "${ids}"; token ids separated by commas are needed`);
  return { kind: 'ids', ids: numbers };
}

function jobOf(options: Options, input: Input, contextTokens: number): Job {
  const [temperature, topK, topP] = [options.number('temperature'), options.number('top-k'), options.number('top-p')];
  if (topP !== null && (topP <= 0 || topP > 1)) throw usage(`--top-p is ${topP}; it must be above 0 and at most 1`);
  const samples = temperature !== null || topK !== null || topP !== null;
  return {
    id: 'generate',
    model: 'local',
    input,
    sampling: {
      temperature: samples ? (temperature ?? 1) : 0,
      topK: topK ?? 0,
      topP: topP ?? 1,
      seed: options.number('seed') ?? randomInt(2 ** 47),
    },
    maxNewTokens: options.number('max-new-tokens') ?? 20,
    truncatePromptTokens: null,
    stop: [],
    stopText: 'drop',
    eos: options.on('ignore-eos') ? 'ignore' : 'stop',
    topLogprobs: 0,
    promptTokenLimit: contextTokens,
  };
}
