/** NibbleLogits: what Nibble's reference backend makes of token ids, for readers in other languages to compare with. */
import { readFileSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { Scorer } from '../../core/engine/scorer.ts';
import { Options } from '../../gpu-worker/command-line.ts';
import { loadModel } from '../../gpu-worker/loader.ts';

// nibble-logits.ts MODEL IDS.json OUT.json: IDS is an array of ids; OUT gets logits [ids, vocab].
const [model, idsFile, out] = process.argv.slice(2) as [string, string, string];
const ids = JSON.parse(readFileSync(idsFile, 'utf8')) as number[];
const loaded = await loadModel(
  new Options(
    [],
    new Map([
      ['model-id', model],
      ['backend', 'reference'],
    ]),
  ),
);
const rows: number[][] = [];
await new Scorer(loaded.graph, ids.length, 'f32').logits(ids, (row) => rows.push([...row]));
await loaded.backend.dispose();
writeFileSync(out, JSON.stringify(rows));
