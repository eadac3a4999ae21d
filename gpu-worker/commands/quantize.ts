/** Quantize: GPTQ from calibration data, as `text-generation-server quantize` does it and more. */
import type { BackendName } from '../../core/model/backend.ts';
import { type Command, type Options, usage } from '../command-line.ts';
import { JSON_FLAG, MODEL_FLAGS, STORE_FLAGS } from '../model-flags.ts';
import { checkOutput } from '../output.ts';
import { quantizeLoneLayer } from '../quantize/lone-layer.ts';
import { openMachine } from '../quantize/machine.ts';
import { runModel } from '../quantize/model-run.ts';
import { outcomeJson, outcomeText } from '../quantize/outcome.ts';
import { CALIBRATION_FLAGS, QUANTIZE_FLAGS, solverOptions } from '../quantize/quantize-flags.ts';
import { openModelHere } from '../store/open-model.ts';

export const quantize: Command = {
  name: 'quantize',
  summary: 'GPTQ of a model from calibration data',
  positionals: ['MODEL', 'OUT'],
  flags: {
    ...QUANTIZE_FLAGS,
    ...CALIBRATION_FLAGS,
    backend: MODEL_FLAGS.backend,
    threads: { kind: 'integer', minimum: 1, help: 'of the wasm backend and the solver (one a core)' },
    eval: { kind: 'text', value: 'FILE', help: 'perplexity before and after, on this text or JSON array of strings' },
    'upload-to-model-id': {
      kind: 'text',
      value: 'ID',
      help: 'upload OUT to this model on the Hub when it is done (HF_TOKEN, HF_ENDPOINT)',
    },
    'max-shard-size': { kind: 'integer', minimum: 1, help: 'bytes of one weight file at most (10000000000)' },
    ...STORE_FLAGS,
    force: { kind: 'switch', help: 'replace OUT' },
    json: JSON_FLAG,
  },
  pending: [],
  examples: [
    'nibble quantize path/to/model OUT --dataset wikitext2   # from the Hub; --dataset-dir DIR: from there',
    'nibble quantize models/demo/f16 OUT --dataset stories.json --groupsize 64 --true-sequential --eval held-out.json',
    'nibble quantize layer.safetensors OUT.safetensors --bits 4 --act-order   # tensors weight and hessian',
  ],
  run,
};

async function run(options: Options): Promise<void> {
  const [source, out] = options.positionals as [string, string];
  const solver = solverOptions(options);
  const files = await openModelHere(source, options);
  try {
    const force = options.on('force');
    await checkOutput(out, { kind: files.lone === undefined ? 'directory' : 'file', force, source });
    const backend = (options.text('backend') ?? 'auto') as 'auto' | BackendName;
    const machine = () => openMachine(backend, options.number('threads'));
    if (files.lone !== undefined) {
      for (const name of ['eval', 'upload-to-model-id'])
        if (options.has(name)) throw usage(`--${name} is for whole models; ${source} is one layer`);
      const result = await quantizeLoneLayer({ files, out, force, source, solver }, machine);
      print(options, { out, ...result }, `${out}: error ${(result.relative_error * 100).toFixed(3)}%`);
      return;
    }
    const outcome = await runModel({ options, source, out, solver, files }, machine);
    print(options, outcomeJson(outcome), outcomeText(outcome));
  } finally {
    await files.close();
  }
}

function print(options: Options, json: object, text: string): void {
  console.log(options.on('json') ? JSON.stringify(json) : text);
}
