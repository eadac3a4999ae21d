/** Perplexity: how well a model predicts a file. */
import { readFile } from 'node:fs/promises';
import { Scorer } from '../../core/engine/scorer.ts';
import { NibbleError } from '../../core/errors.ts';
import type { Command, Options } from '../command-line.ts';
import { type LoadedModel, loadModel } from '../loader.ts';
import { JSON_FLAG, kvDtypeOf, MODEL_FLAGS, PENDING_MODEL_FLAGS } from '../model-flags.ts';
import { progressBar } from '../progress.ts';

export const perplexity: Command = {
  name: 'perplexity',
  summary: 'mean negative log likelihood and perplexity of a file',
  positionals: [],
  flags: {
    ...MODEL_FLAGS,
    file: {
      kind: 'text',
      value: 'FILE',
      help: 'text (windows of --context), or a JSON array of strings (each on its own)',
    },
    context: { kind: 'integer', minimum: 2, help: "tokens of a window (the model's context)" },
    limit: { kind: 'integer', minimum: 1, help: 'only the first so many windows or strings' },
    json: JSON_FLAG,
  },
  pending: PENDING_MODEL_FLAGS,
  examples: ['nibble perplexity --model-id models/demo/gptq-int4 --file stories.json --json'],
  run,
};

async function run(options: Options): Promise<void> {
  const file = options.required('file');
  const content = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new NibbleError({ code: 'file_missing', file, reason: `cannot be read: ${error.code}` });
  });
  const model = await loadModel(options);
  const context = Math.min(options.number('context') ?? model.config.contextTokens, model.config.contextTokens);
  const windows = windowsOf(content, file, model, context).slice(0, options.number('limit') ?? undefined);
  const scorer = new Scorer(model.graph, context, kvDtypeOf(options));
  const progress = progressBar('Scoring');
  let [tokens, nll] = [0, 0];
  for (const [index, ids] of windows.entries()) {
    for (const logprob of await scorer.logprobs(ids)) {
      tokens++;
      nll -= logprob;
    }
    progress(index + 1, windows.length);
  }
  const backend = model.backend.name;
  await model.backend.dispose();
  if (tokens === 0)
    throw new NibbleError({ code: 'file_invalid', file, tensor: null, rule: 'holds no window of two tokens or more' });
  const mean = nll / tokens;
  const result = { tokens, mean_nll: mean, perplexity: Math.exp(mean), backend };
  console.log(
    options.on('json')
      ? JSON.stringify(result)
      : `perplexity ${result.perplexity.toFixed(4)} (mean NLL ${mean.toFixed(5)} over ${tokens} tokens, ${backend})`,
  );
}

/** A JSON array: each string cut to the context. Anything else is one text in windows that do not overlap. */
function windowsOf(content: string, file: string, { tokenizer }: LoadedModel, context: number): number[][] {
  if (content.trimStart().startsWith('[')) {
    let strings: unknown = null;
    try {
      strings = JSON.parse(content);
    } catch {
      // A text may well begin with a bracket.
    }
    if (Array.isArray(strings)) {
      if (!strings.every((string) => typeof string === 'string'))
        throw new NibbleError({
          code: 'file_invalid',
          file,
          tensor: null,
          rule: 'is a JSON array, but not of strings',
        });
      return strings.map((string) => tokenizer.encode(string, 'add').slice(0, context));
    }
  }
  const ids = tokenizer.encode(content, 'add');
  return Array.from({ length: Math.ceil(ids.length / context) }, (_, i) =>
    ids.slice(i * context, (i + 1) * context),
  ).filter((window) => window.length > 1);
}
