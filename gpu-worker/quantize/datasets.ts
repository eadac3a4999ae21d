/** Datasets: calibration data by name, from a local file or the Hub, in the form that GPTQ's scripts make of it. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { NibbleError } from '../../core/errors.ts';
import { type CalibrationText, parseCalibration } from './calibration.ts';

/** A text file larger than this is no calibration file. */
const MAX_BYTES = 4_000_000_000;

interface Dataset {
  /** Names under which its training split is looked for, the first that is there. */
  files: readonly string[];
  parse(content: string): CalibrationText;
}

const DATASETS: Readonly<Record<string, Dataset>> = {
  wikitext2: { files: ['wiki.train.raw', 'wikitext-2-raw/wiki.train.raw'], parse: wikitext },
  ptb: {
    files: ['ptb.train.txt'],
    parse: (content) => ({
      kind: 'text',
      text: content
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => line.trim())
        .join('\n\n'),
    }),
  },
  c4: {
    files: ['c4-train.00000-of-01024.json.gz', 'c4-train.00000-of-01024.json', 'en/c4-train.00000-of-01024.json.gz'],
    parse: (content) => ({
      kind: 'documents',
      texts: content
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => (JSON.parse(line) as { text: string }).text),
    }),
  },
};

/** `download` fetches a named dataset's file from the Hub; null: it is not reachable by name. */
export async function readCalibration(
  dataset: string,
  directory: string,
  download: ((dataset: string) => Promise<string>) | null,
): Promise<{ file: string; content: CalibrationText }> {
  const known = Object.hasOwn(DATASETS, dataset) ? DATASETS[dataset] : undefined;
  if (known === undefined) return { file: dataset, content: parseCalibration(await readText(dataset), dataset) };
  for (const name of known.files) {
    const file = join(directory, name);
    const found = await stat(file).catch(() => null);
    if (found?.isFile()) return { file, content: known.parse(await readText(file)) };
  }
  if (download !== null) {
    const file = await download(dataset);
    return { file, content: known.parse(await readText(file)) };
  }
  throw new NibbleError({
    code: 'file_missing',
    file: join(directory, known.files[0]!),
    reason: `is not there; --dataset ${dataset} is looked for in --dataset-dir (or name a file of your own)`,
  });
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
    return new TextDecoder('utf-8', { fatal: true }).decode(file.endsWith('.gz') ? gunzipSync(bytes) : bytes);
  } catch (error) {
    throw invalid(error instanceof TypeError ? 'is not UTF-8 text' : `cannot be unpacked: ${(error as Error).message}`);
  }
}
