/** Datasets: calibration data by name or file, in the form that GPTQ's scripts make of it. */
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createGunzip } from 'node:zlib';
import { NibbleError } from '../../core/errors.ts';
import { type CalibrationText, parseCalibration } from './calibration.ts';

/** The longest text that the engine holds as one string has 2^29 − 24 characters. */
const MAX_BYTES = 500_000_000;

interface Dataset {
  /** Names under which its training split is looked for, the first that is there. */
  files: readonly string[];
  read(file: string): Promise<CalibrationText>;
}

const DATASETS: Readonly<Record<string, Dataset>> = {
  wikitext2: {
    files: ['wiki.train.raw', 'wikitext-2-raw/wiki.train.raw'],
    read: async (file) => wikitext(await readText(file)),
  },
  ptb: { files: ['ptb.train.txt'], read: async (file) => pennTreebank(await readText(file)) },
  c4: {
    files: ['c4-train.00000-of-01024.json.gz', 'c4-train.00000-of-01024.json', 'en/c4-train.00000-of-01024.json.gz'],
    read: commonCrawl,
  },
};

/** `directory` is where named datasets are looked for. Throws `file_missing` and `file_invalid`. */
export async function readCalibration(
  dataset: string,
  directory: string,
): Promise<{ file: string; content: CalibrationText }> {
  const known = Object.hasOwn(DATASETS, dataset) ? DATASETS[dataset] : undefined;
  if (known === undefined) return { file: dataset, content: parseCalibration(await readText(dataset), dataset) };
  for (const name of known.files) {
    const file = join(directory, name);
    const found = await stat(file).catch(() => null);
    if (found?.isFile()) return { file, content: await known.read(file) };
  }
  throw new NibbleError({
    code: 'file_missing',
    file: join(directory, known.files[0]!),
    reason: `is not there; --dataset ${dataset} is looked for in --dataset-dir (or name a file of your own)`,
  });
}

/** Sentences, as the Hub's rows are. */
function pennTreebank(content: string): CalibrationText {
  const sentences = content.split('\n').filter((line) => line !== '');
  return { kind: 'text', text: sentences.map((line) => line.trim()).join('\n\n') };
}

/** Line by line: unpacked, a file of c4 is longer than a string may be. */
async function commonCrawl(file: string): Promise<CalibrationText> {
  const bytes = createReadStream(file);
  const input = file.endsWith('.gz') ? bytes.pipe(createGunzip()) : bytes;
  const texts: string[] = [];
  try {
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY }))
      if (line !== '') texts.push((JSON.parse(line) as { text: string }).text);
  } catch (error) {
    const rule = `line ${texts.length + 1} cannot be read: ${(error as Error).message}`;
    throw new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
  }
  if (texts.every((text) => typeof text === 'string') && texts.length > 0) return { kind: 'documents', texts };
  throw new NibbleError({ code: 'file_invalid', file, tensor: null, rule: 'holds no documents with a "text"' });
}

/** The Hub's rows of wikitext: each line with its newline, blank ones empty; joined as GPTQ's scripts do. */
function wikitext(content: string): CalibrationText {
  const lines = content.split('\n');
  if (lines.at(-1) === '') lines.pop();
  return { kind: 'text', text: lines.map((line) => (line.trim() === '' ? '' : `${line}\n`)).join('\n\n') };
}

async function readText(file: string): Promise<string> {
  const missing = (reason: string) => new NibbleError({ code: 'file_missing', file, reason });
  const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
    throw missing(`the calibration data cannot be read: ${error.code}`);
  });
  if (!found.isFile()) throw missing('the calibration data is not a file');
  const invalid = (rule: string) => new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
  if (found.size > MAX_BYTES) throw invalid(`has ${found.size} bytes, over the ${MAX_BYTES} of calibration data`);
  const bytes = await readFile(file);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw invalid('is not UTF-8 text');
  }
}
