/** Vocabulary: pieces for a model whose text nobody reads, as a SentencePiece tokenizer must have them. */

const SPECIAL = ['<unk>', '<s>', '</s>'];
/** llama.cpp's numbers. */
const TYPES = { normal: 1, unknown: 2, control: 3, byte: 6 };
/** Marks the beginning of a word. */
const SPACE = '\u2581';
const LEAST = 300;

/** tokens [size], all different: three special ones, the 256 bytes, the letters, then words made of them. */
export function syntheticVocabulary(size: number): { tokens: string[]; scores: Float32Array; types: Int32Array } {
  if (size < LEAST) throw new Error(`a vocabulary of ${size}; rivals need ${LEAST} or more`);
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const letters = [...'abcdefghijklmnopqrstuvwxyz', SPACE];
  const tokens = [...SPECIAL, ...bytes, ...letters];
  for (let n = 0; tokens.length < size; n++) {
    const word = wordOf(n, letters);
    if (word.length > 1) tokens.push(n % 2 === 0 ? word : SPACE + word);
  }
  const scores = Float32Array.from(tokens, (_, rank) => -rank);
  const types = Int32Array.from(tokens, (_, id) => {
    if (id < SPECIAL.length) return id === 0 ? TYPES.unknown : TYPES.control;
    return id < SPECIAL.length + bytes.length ? TYPES.byte : TYPES.normal;
  });
  return { tokens, scores, types };
}

/** The n-th word over a..z: a, b, …, z, aa, ab, … */
function wordOf(n: number, letters: readonly string[]): string {
  const last = letters[n % 26]!;
  return n < 26 ? last : wordOf(Math.floor(n / 26) - 1, letters) + last;
}
