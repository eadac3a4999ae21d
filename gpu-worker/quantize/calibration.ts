/** Calibration: token sequences to quantize by: random windows of a text, or texts one by one. Takes the content, touches no file. */
import { NibbleError } from '../../core/errors.ts';
import { PythonRandom } from './python-random.ts';

/** What a file turned out to hold. */
export type CalibrationText =
  /** Windows are drawn from it at random. */
  | { kind: 'text'; text: string }
  /** Each a sample, in order, cut to the window; short ones are kept. */
  | { kind: 'samples'; texts: readonly string[] }
  /** Windows are drawn from random documents that are long enough (c4). */
  | { kind: 'documents'; texts: readonly string[] };

export interface SampleOptions {
  /** For errors. */
  file: string;
  samples: number;
  /** Tokens of a window. */
  windowTokens: number;
  seed: number;
  encode(text: string): readonly number[];
}

/** Throws `file_invalid` when there is too little. */
export function sampleCalibration(content: CalibrationText, options: SampleOptions): number[][] {
  switch (content.kind) {
    case 'text':
      return windowsOf(content.text, options);
    case 'samples':
      return samplesOf(content.texts, options);
    case 'documents':
      return windowsOfDocuments(content.texts, options);
    default:
      return content satisfies never;
  }
}

/** As get_wikitext2 and get_ptb of GPTQ's scripts and text-generation-inference draw them, for a seed. */
function windowsOf(text: string, { file, samples, windowTokens, seed, encode }: SampleOptions): number[][] {
  const ids = encode(text);
  if (ids.length <= windowTokens)
    throw tooShort(file, `holds ${ids.length} tokens; a window of --seqlen ${windowTokens} needs at least one more`);
  const random = new PythonRandom(seed);
  return Array.from({ length: samples }, () => {
    const start = random.randint(0, Math.max(0, ids.length - windowTokens - 1));
    return ids.slice(start, start + windowTokens);
  });
}

function samplesOf(texts: readonly string[], { file, samples, windowTokens, encode }: SampleOptions): number[][] {
  const sequences: number[][] = [];
  for (const text of texts) {
    if (sequences.length === samples) break;
    // Else it would be a sample of the tokenizer's first token alone.
    if (text.trim() === '') continue;
    const ids = encode(text).slice(0, windowTokens);
    if (ids.length > 0) sequences.push(ids);
  }
  if (sequences.length === 0) throw tooShort(file, 'holds no text with a token in it');
  return sequences;
}

/** As get_c4: a document too short is drawn again. */
function windowsOfDocuments(
  texts: readonly string[],
  { file, samples, windowTokens, seed, encode }: SampleOptions,
): number[][] {
  const random = new PythonRandom(seed);
  const tooShortOnes = new Set<number>();
  return Array.from({ length: samples }, () => {
    for (;;) {
      if (tooShortOnes.size === texts.length)
        throw tooShort(file, `holds no document of more than --seqlen ${windowTokens} tokens`);
      const document = random.randint(0, texts.length - 1);
      const ids = tooShortOnes.has(document) ? [] : encode(texts[document]!);
      if (ids.length > windowTokens) {
        const start = random.randint(0, ids.length - windowTokens - 1);
        return ids.slice(start, start + windowTokens);
      }
      tooShortOnes.add(document);
    }
  });
}

function tooShort(file: string, rule: string): NibbleError {
  return new NibbleError({ code: 'file_invalid', file, tensor: null, rule: `${rule}; quantization needs more text` });
}

/** JSON (an array) and JSONL, of strings or of objects with a string `text`, give samples; anything else is one text. Throws `file_invalid` when a JSON file holds something else, or nothing. */
export function parseCalibration(content: string, file: string): CalibrationText {
  const invalid = (rule: string) => new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
  if (content.trim() === '') throw invalid('is empty; quantization needs text');
  const textOf = (value: unknown, index: number): string => {
    if (typeof value === 'string') return value;
    if (typeof value === 'object' && value !== null && 'text' in value && typeof value.text === 'string')
      return value.text;
    throw invalid(`sample ${index + 1} is neither a string nor an object with a string "text"`);
  };
  const whole = parsed(content);
  if (Array.isArray(whole)) {
    if (whole.length === 0) throw invalid('is an empty JSON array; quantization needs text');
    return { kind: 'samples', texts: whole.map(textOf) };
  }
  const lines = content.split(/\r?\n/).filter((line) => line.trim() !== '');
  const values = /^\s*[{"]/.test(content) ? lines.map(parsed) : [];
  if (values.length > 0 && values.every((value) => value !== undefined))
    return { kind: 'samples', texts: values.map(textOf) };
  if (/\.(json|jsonl)$/.test(file)) throw invalid('is neither a JSON array nor one JSON value a line');
  return { kind: 'text', text: content };
}

/** undefined when it is not JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
