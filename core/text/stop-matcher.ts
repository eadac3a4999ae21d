/** Stop matcher: finds the first of several strings in a text that arrives in parts, in one pass (Knuth–Morris–Pratt, one state a string). */

export class StopMatcher {
  readonly #patterns: readonly { text: string; borders: Int32Array }[];
  /** Of each pattern, how many of its characters the text so far ends with. */
  readonly #matched: Int32Array;

  constructor(stops: readonly string[]) {
    this.#patterns = stops.map((text) => ({ text, borders: bordersOf(text) }));
    this.#matched = new Int32Array(stops.length);
  }

  /** Takes the text's next UTF-16 unit; returns the length of the longest pattern that it completes, or 0. */
  push(unit: string): number {
    let longest = 0;
    for (const [i, { text, borders }] of this.#patterns.entries()) {
      let matched = this.#matched[i]!;
      // After a full match text[matched] is undefined, so the border is taken there too.
      while (matched > 0 && text[matched] !== unit) matched = borders[matched - 1]!;
      if (text[matched] === unit) matched++;
      this.#matched[i] = matched;
      if (matched === text.length) longest = Math.max(longest, matched);
    }
    return longest;
  }

  /** How many units at the end of the text so far may be the start of a pattern. */
  get pending(): number {
    return this.#matched.reduce((longest, matched) => Math.max(longest, matched), 0);
  }
}

/** borders[i]: length of the longest proper prefix of text[0..i] that is also its suffix. */
function bordersOf(text: string): Int32Array {
  const borders = new Int32Array(text.length);
  for (let i = 1, length = 0; i < text.length; i++) {
    while (length > 0 && text[i] !== text[length]) length = borders[length - 1]!;
    if (text[i] === text[length]) length++;
    borders[i] = length;
  }
  return borders;
}
