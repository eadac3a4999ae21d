/** PerplexityOf: how well a loaded model predicts a text. */
import { readFile } from 'node:fs/promises';
import { Scorer } from '../core/engine/scorer.ts';
import { NibbleError } from '../core/errors.ts';
import type { KvDtype } from '../core/model/backend.ts';
import type { LoadedModel } from './loader.ts';

export interface Perplexity {
  tokens: number;
  meanNll: number;
  perplexity: number;
  /** Of each window in order, for comparing two models on the same file. */
  windows: readonly WindowNll[];
}

export interface WindowNll {
  tokens: number;
  /** Sum over its tokens, nats. */
  nll: number;
}

export interface PerplexityOptions {
  /** Text in windows that do not overlap, or a JSON array of strings, each on its own. */
  file: string;
  /** Tokens of a window; null: the model's context. */
  context: number | null;
  /** Only the first so many windows or strings; null: all. */
  limit: number | null;
  /** Absent or null: the backend's own choice. */
  kvDtype?: KvDtype | null;
  onWindow(done: number, total: number): void;
}

/** Takes the model's backend for itself; the caller disposes of it. Throws `file_missing` and `file_invalid`. */
export async function perplexityOf(model: LoadedModel, options: PerplexityOptions): Promise<Perplexity> {
  const { file, limit, onWindow } = options;
  const content = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new NibbleError({ code: 'file_missing', file, reason: `cannot be read: ${error.code}` });
  });
  const context = Math.min(options.context ?? model.config.contextTokens, model.config.contextTokens);
  const windows = windowsOf(content, file, model, context).slice(0, limit ?? undefined);
  const scorer = new Scorer(model.graph, context, options.kvDtype ?? null);
  const scored: WindowNll[] = [];
  for (const ids of windows) {
    const logprobs = await scorer.logprobs(ids);
    scored.push({ tokens: logprobs.length, nll: -logprobs.reduce((sum, logprob) => sum + logprob, 0) });
    onWindow(scored.length, windows.length);
  }
  const tokens = scored.reduce((sum, window) => sum + window.tokens, 0);
  const nll = scored.reduce((sum, window) => sum + window.nll, 0);
  if (tokens === 0)
    throw new NibbleError({ code: 'file_invalid', file, tensor: null, rule: 'holds no window of two tokens or more' });
  return { tokens, meanNll: nll / tokens, perplexity: Math.exp(nll / tokens), windows: scored };
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
