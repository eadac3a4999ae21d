/** Mutation: seeded small damage to a text, for fuzzing readers of files from outside. */
import { expect } from 'vitest';
import { NibbleError } from '../../../core/errors.ts';
import type { ByteSource } from '../../../core/formats/byte-source.ts';

const TOKENS = [
  ...'{}[]",:\\-0 ',
  '-1',
  '1e9',
  '1e400',
  '9007199254740993',
  'null',
  'true',
  '"gptq"',
  '"__proto__":',
  '"a":',
  '\u0000',
  'NaN',
  '[[[[',
  '\ud800',
];

export type Random = () => number;

export function pick<Item>(items: readonly Item[], random: Random): Item {
  return items[Math.floor(random() * items.length)]!;
}

/** One to four edits: a token put in, characters cut out, a value replaced by another of the text's own. */
export function mutate(text: string, random: Random): string {
  let result = text;
  for (let edits = Math.floor(random() * 4); edits >= 0; edits--) {
    const at = Math.floor(random() * (result.length + 1));
    const kind = random();
    if (kind < 0.4) {
      const values = [...result.matchAll(/(?<=[:,[])\s*("[^"]*"|-?[\d.]+|true|false|null)(?=[,\]}])/g)];
      if (values.length === 0) continue;
      const [target, source] = [pick(values, random), pick(values, random)];
      const value = random() < 0.5 ? source[0] : pick(TOKENS, random);
      result = result.slice(0, target.index) + value + result.slice(target.index + target[0].length);
    } else {
      const cut = kind < 0.7 ? Math.floor(random() * 6) : 0;
      result = result.slice(0, at) + (random() < 0.7 ? pick(TOKENS, random) : '') + result.slice(at + cut);
    }
  }
  return result;
}

/** A file in memory that fails the test when more than it holds is asked for: a reader must not trust sizes that a file claims. */
export function strictSource(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    size: bytes.byteLength,
    async read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > bytes.byteLength)
        throw new Error(`${length} bytes from ${offset} of ${bytes.byteLength} were asked for`);
      return bytes.subarray(offset, offset + length);
    },
  };
}

/** Runs `load` on every mutation; each ends in a value or in a NibbleError of a file's fault. Resolves to how many loaded. */
export async function fuzz(rounds: number, load: (round: number) => Promise<unknown>): Promise<number> {
  let loaded = 0;
  for (let round = 0; round < rounds; round++) {
    try {
      await load(round);
      loaded++;
    } catch (error) {
      if (!(error instanceof NibbleError)) throw error;
      expect(['file_invalid', 'file_missing', 'model_unsupported']).toContain(error.failure.code);
      // A sentence, not the file: what is repeated of it is cut.
      if (error.message.length > 3000) throw new Error(`an error of ${error.message.length} characters`);
    }
  }
  return loaded;
}
