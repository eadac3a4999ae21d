/** Datasets: wikitext2, ptb and c4 by name, from this disk or a server that speaks the Hub's API, put together as GPTQ's scripts do. */
import { createHash } from 'node:crypto';
import { cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readCalibration } from '../../../gpu-worker/quantize/datasets.ts';
import { parquetTexts } from '../../../gpu-worker/quantize/parquet-texts.ts';
import { downloadDatasetFile } from '../../../gpu-worker/store/hub-dataset.ts';
import { COMMIT, HubServer } from '../hub-server.ts';

const FIXTURES = join(import.meta.dirname, '../../fixtures/datasets');
const WIKITEXT = 'wikitext-2-raw-v1/train-00000-of-00001.parquet';
const TREEBANK = 'penn_treebank/train/0000.parquet';
const CRAWL = 'en/c4-train.00000-of-01024.json.gz';
const LIMIT = 1_000_000;

/** What pyarrow reads of the fixtures (scripts/fixtures/datasets.py). */
const GOLDEN = JSON.parse(await readFile(join(FIXTURES, 'golden.json'), 'utf8')).files as Record<
  string,
  { column: string; rows: number; sha256: string }
>;
const hashOf = (text: string) => createHash('sha256').update(text).digest('hex');

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nibble-datasets-'));
});
afterEach(() => rm(directory, { recursive: true }));

describe('on this disk', () => {
  const read = async (name: string) => (await readCalibration(name, { kind: 'directory', directory })).content;

  test('the original files are put together as the scripts do with the rows of the Hub', async () => {
    await writeFile(join(directory, 'wiki.train.raw'), ' \n = Title = \n \n Words . \n');
    await writeFile(join(directory, 'ptb.train.txt'), ' a b \n c \n');
    await writeFile(join(directory, 'c4-train.00000-of-01024.json.gz'), gzipSync('{"text":"a"}\n{"text":"b"}\n'));
    // "\n\n".join(["", " = Title = \n", "", " Words . \n"]), as the Hub's rows are.
    expect(await read('wikitext2')).toEqual({ kind: 'text', text: '\n\n = Title = \n\n\n\n\n Words . \n' });
    expect(await read('ptb')).toEqual({ kind: 'text', text: 'a b\n\nc' });
    expect(await read('c4')).toEqual({ kind: 'documents', texts: ['a', 'b'] });
  });

  test('a directory that was named is the only place', async () => {
    await expect(read('wikitext2')).rejects.toThrow(/wiki\.train\.raw: is not there; --dataset wikitext2/);
    await expect(read(join(directory, 'none.txt'))).rejects.toThrow(
      /none\.txt: there is no such file with calibration data, and no dataset of that name \(wikitext2, ptb, c4\)/,
    );
  });

  test('a broken line and a broken archive of c4 are named', async () => {
    const file = join(directory, 'c4-train.00000-of-01024.json.gz');
    await writeFile(file, gzipSync('{"text":"a"}\n{"text":\n'));
    await expect(read('c4')).rejects.toThrow(/json\.gz: cannot be read at line 2/);
    await writeFile(file, gzipSync('{"text":"a"}\n'.repeat(1000)).subarray(0, 40));
    await expect(read('c4')).rejects.toThrow(/json\.gz: cannot be read at line \d+: unexpected end of file/);
  });
});

describe('Parquet', () => {
  test.each(Object.entries(GOLDEN).filter(([name]) => name.includes('/')))(
    '%s gives the rows that pyarrow gives',
    async (name, golden) => {
      const rows = await parquetTexts(join(FIXTURES, name), golden.column, LIMIT);
      expect([rows.length, hashOf(rows.join('\n\n'))]).toEqual([golden.rows, golden.sha256]);
    },
  );

  test('a column that is not there, a codec that is not read, too many bytes and a torn file are said', async () => {
    const read = (name: string, limit = LIMIT) => parquetTexts(join(FIXTURES, name), 'text', limit);
    await expect(read('no-text.parquet')).rejects.toThrow(/no-text\.parquet: has no column "text"/);
    await expect(read('unread-codec.parquet')).rejects.toThrow(/cannot be read as Parquet: .*codec: ZSTD/);
    await expect(read(WIKITEXT, 1000)).rejects.toThrow(/unpacks to \d{4,} bytes, over the 1000 of calibration data/);
    const torn = join(directory, 'torn.parquet');
    await cp(join(FIXTURES, WIKITEXT), torn);
    await truncate(torn, 2000);
    await expect(parquetTexts(torn, 'text', LIMIT)).rejects.toThrow(/torn\.parquet: .*(Parquet|footer)/);
    await writeFile(torn, '');
    await expect(parquetTexts(torn, 'text', LIMIT)).rejects.toThrow(
      /torn\.parquet: cannot be read as Parquet: it has 0 bytes/,
    );
  });
});

describe('on the Hub', () => {
  let hub: HubServer;
  beforeEach(async () => {
    hub = await HubServer.start();
    const of = async (path: string) => new Map([[path, await readFile(join(FIXTURES, path))]]);
    hub.datasets.set('Salesforce/wikitext', await of(WIKITEXT));
    hub.datasets.set('ptb-text-only/ptb_text_only', await of(TREEBANK));
    hub.datasets.set('allenai/c4', new Map([[CRAWL, gzipSync('{"text":"a"}\n{"text":"b"}\n')]]));
  });
  afterEach(() => hub.close());
  const place = (endpoint = hub.url) =>
    ({ kind: 'hub', directory, cache: join(directory, 'cache'), access: { endpoint, token: null } }) as const;
  const read = async (name: string) => (await readCalibration(name, place())).content;

  test('wikitext2 and ptb are the rows of their Parquet files, c4 its first archive', async () => {
    for (const [name, path] of [
      ['wikitext2', WIKITEXT],
      ['ptb', TREEBANK],
    ] as const) {
      const content = await read(name);
      expect(content.kind).toBe('text');
      expect(content.kind === 'text' && hashOf(content.text)).toBe(GOLDEN[path]!.sha256);
    }
    expect(await read('c4')).toEqual({ kind: 'documents', texts: ['a', 'b'] });
    const folder = join(directory, 'cache', 'datasets--allenai--c4', 'snapshots', COMMIT, 'en');
    expect(await readdir(folder)).toEqual(['c4-train.00000-of-01024.json.gz']);
  });

  test('what is here comes first, and what was fetched is not fetched again, nor missed without a connection', async () => {
    await read('ptb');
    hub.requests.length = 0;
    const again = await read('ptb');
    expect(hub.requests.filter((request) => request.includes('/resolve/'))).toEqual([]);
    expect((await readCalibration('ptb', place('http://127.0.0.1:9'))).content).toEqual(again);
    hub.requests.length = 0;
    await writeFile(join(directory, 'ptb.train.txt'), ' a b \n c \n');
    expect(await read('ptb')).toEqual({ kind: 'text', text: 'a b\n\nc' });
    expect(hub.requests).toEqual([]);
  });

  test('a download that breaks off goes on from its last byte', async () => {
    hub.breaks.push(1000, 700);
    const content = await read('wikitext2');
    expect(content.kind === 'text' && hashOf(content.text)).toBe(GOLDEN[WIKITEXT]!.sha256);
    const asked = hub.requests.filter((request) => request.includes('/resolve/'));
    expect(asked).toHaveLength(3);
    for (const request of asked.slice(1)) expect(request).toMatch(/ bytes=[1-9]\d*-$/);
  });

  test('no connection, a dataset or file that is gone, and one that is too large, in a sentence', async () => {
    await expect(readCalibration('wikitext2', place('http://127.0.0.1:9'))).rejects.toThrow(
      /Salesforce\/wikitext: the dataset cannot be fetched from http:\/\/127\.0\.0\.1:9 at revision main/,
    );
    hub.datasets.get('Salesforce/wikitext')!.clear();
    await expect(read('wikitext2')).rejects.toThrow(/has no wikitext-2-raw-v1\/train-00000-of-00001\.parquet in it/);
    hub.datasets.delete('allenai/c4');
    await expect(read('c4')).rejects.toThrow(/allenai\/c4: the dataset cannot be fetched/);
    const file = { id: 'ptb-text-only/ptb_text_only', revision: 'main', path: TREEBANK, maxBytes: 1000 };
    await expect(downloadDatasetFile(file, place())).rejects.toThrow(/has \d{4} bytes on .*, over the 1000/);
  });
});
