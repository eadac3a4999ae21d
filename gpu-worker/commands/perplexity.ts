/** Perplexity: how well a model predicts a file. */
import type { Command, Options } from '../command-line.ts';
import { loadModel } from '../loader.ts';
import { JSON_FLAG, kvDtypeOf, MODEL_FLAGS } from '../model-flags.ts';
import { perplexityOf } from '../perplexity-of.ts';
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
  pending: [],
  examples: ['nibble perplexity --model-id models/demo/gptq-int4 --file stories.json --json'],
  run,
};

async function run(options: Options): Promise<void> {
  const file = options.required('file');
  const model = await loadModel(options);
  const [context, limit] = [options.number('context'), options.number('limit')];
  const { tokens, meanNll, perplexity } = await perplexityOf(model, {
    file,
    context,
    limit,
    kvDtype: kvDtypeOf(options),
    onWindow: progressBar('Scoring'),
  });
  const backend = model.backend.name;
  await model.backend.dispose();
  console.log(
    options.on('json')
      ? JSON.stringify({ tokens, mean_nll: meanNll, perplexity, backend })
      : `perplexity ${perplexity.toFixed(4)} (mean NLL ${meanNll.toFixed(5)} over ${tokens} tokens, ${backend})`,
  );
}
