/** Datasets: calibration data by name or file, from this disk or the Hub, in the form that GPTQ's scripts make of it. */
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { NibbleError } from '../../core/errors.ts';
import type { HubAccess } from '../store/hub-access.ts';
import { type CalibrationText, parseCalibration } from './calibration.ts';
import { parquetTexts } from './parquet-texts.ts';

/** The longest text that the engine holds as one string has 2^29 − 24 characters. */
const MAX_BYTES = 500_000_000;
/** c4's first file has 825 MB of lines; they are held in memory, because its script draws documents from all of them. */
const MAX_DOCUMENT_BYTES = 1_500_000_000;

interface Dataset {
  /** Names under which its training split is looked for, the first that is there. */
  files: readonly string[];
  hub: { id: string; revision: string; path: string };
  read(file: string): Promise<CalibrationText>;
}

const DATASETS: Readonly<Record<string, Dataset>> = {
  wikitext2: {
    files: ['wiki.train.raw', 'wikitext-2-raw/wiki.train.raw', 'wikitext-2-raw-v1/train-00000-of-00001.parquet'],
    hub: { id: 'Salesforce/wikitext', revision: 'main', path: 'wikitext-2-raw-v1/train-00000-of-00001.parquet' },
    read: async (file) =>
      joined(isParquet(file) ? await parquetTexts(file, 'text', MAX_BYTES) : wikitextRows(await readText(file))),
  },
  ptb: {
    files: ['ptb.train.txt', 'penn_treebank/train/0000.parquet'],
    // Its own branch has a script only; the Hub keeps the rows that it made.
    hub: {
      id: 'ptb-text-only/ptb_text_only',
      revision: 'refs/convert/parquet',
      path: 'penn_treebank/train/0000.parquet',
    },
    read: async (file) =>
      joined(isParquet(file) ? await parquetTexts(file, 'sentence', MAX_BYTES) : sentences(await readText(file))),
  },
  c4: {
    files: ['c4-train.00000-of-01024.json.gz', 'c4-train.00000-of-01024.json', 'en/c4-train.00000-of-01024.json.gz'],
    hub: { id: 'allenai/c4', revision: 'main', path: 'en/c4-train.00000-of-01024.json.gz' },
    read: commonCrawl,
  },
};

/** Where named datasets are looked for: in a directory only, or here and then on the Hub. */
export type DatasetPlace =
  | { kind: 'directory'; directory: string }
  | { kind: 'hub'; directory: string; cache: string | null; access: HubAccess };

export interface CalibrationFile {
  file: string;
  content: CalibrationText;
}

/** `dataset` is a name, or a file of one's own. Throws `file_missing` and `file_invalid`. */
export async function readCalibration(dataset: string, place: DatasetPlace): Promise<CalibrationFile> {
  const known = Object.hasOwn(DATASETS, dataset) ? DATASETS[dataset] : undefined;
  if (known === undefined) return { file: dataset, content: parseCalibration(await readText(dataset), dataset) };
  const file = (await localFile(known, place.directory)) ?? (await hubFile(dataset, known, place));
  return { file, content: await known.read(file) };
}

async function localFile({ files }: Dataset, directory: string): Promise<string | null> {
  for (const name of files) {
    const file = join(directory, name);
    const found = await stat(file).catch(() => null);
    if (found?.isFile()) return file;
  }
  return null;
}

async function hubFile(name: string, { files, hub }: Dataset, place: DatasetPlace): Promise<string> {
  if (place.kind === 'directory')
    throw new NibbleError({
      code: 'file_missing',
      file: join(place.directory, files[0]!),
      reason: `is not there; --dataset ${name} is looked for in --dataset-dir (or name a file of your own)`,
    });
  const { downloadDatasetFile } = await import('../store/hub-dataset.ts');
  return downloadDatasetFile({ ...hub, maxBytes: MAX_BYTES }, place);
}

function isParquet(file: string): boolean {
  return file.endsWith('.parquet');
}

/** As get_wikitext2 and get_ptb put rows together. */
function joined(rows: readonly string[]): CalibrationText {
  return { kind: 'text', text: rows.join('\n\n') };
}

/** Sentences, as the Hub's rows are. */
function sentences(content: string): string[] {
  return content
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.trim());
}

/** The Hub's rows of wikitext: each line with its newline, blank ones empty. */
function wikitextRows(content: string): string[] {
  const lines = content.split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines.map((line) => (line.trim() === '' ? '' : `${line}\n`));
}

/** Line by line: unpacked, a file of c4 is longer than a string may be. */
async function commonCrawl(file: string): Promise<CalibrationText> {
  const invalid = (rule: string) => new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
  const bytes = createReadStream(file);
  const input = file.endsWith('.gz') ? unpacked(bytes) : bytes;
  const texts: string[] = [];
  let [lines, held] = [0, 0];
  try {
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      lines++;
      held += line.length;
      if (held > MAX_DOCUMENT_BYTES) throw invalid(`holds more than the ${MAX_DOCUMENT_BYTES} of calibration data`);
      if (line !== '') texts.push((JSON.parse(line) as { text: string }).text);
    }
  } catch (error) {
    if (error instanceof NibbleError) throw error;
    throw invalid(`cannot be read at line ${lines}: ${(error as Error).message}`);
  }
  if (texts.every((text) => typeof text === 'string') && texts.length > 0) return { kind: 'documents', texts };
  throw invalid('holds no documents with a "text"');
}

/** An error of either stream ends the reading. */
function unpacked(bytes: Readable): Readable {
  const unzip = createGunzip();
  bytes.once('error', (error) => unzip.destroy(error));
  return bytes.pipe(unzip);
}

async function readText(file: string): Promise<string> {
  const missing = (reason: string) => new NibbleError({ code: 'file_missing', file, reason });
  const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
    throw missing(
      error.code === 'ENOENT'
        ? `there is no such file with calibration data, and no dataset of that name (${Object.keys(DATASETS).join(', ')})`
        : `the calibration data cannot be read: ${error.code}`,
    );
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
