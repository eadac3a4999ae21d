/** Draws: a stream of seeded choices; the same seed and name draw the same on every machine. */
import { uniform } from '../../core/engine/random.ts';

export class Draws {
  readonly #seed: number;
  #position = 0;

  /** Streams of different names do not disturb each other. */
  constructor(seed: number, name: string) {
    let hash = 0x811c9dc5;
    for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0)!, 0x01000193);
    this.#seed = (seed % 2 ** 21) * 2 ** 32 + (hash >>> 0);
  }

  /** In [0, 1). */
  next(): number {
    return uniform(this.#seed, this.#position++);
  }

  /** From `least` to `most`, both included. */
  integer(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.next() * items.length)]!;
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** One of the names, as often as its weight says. */
  weighted<Name extends string>(weights: Readonly<Record<Name, number>>): Name {
    const entries = Object.entries(weights) as [Name, number][];
    let at = this.next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [name, weight] of entries) {
      at -= weight;
      if (at < 0) return name;
    }
    return entries.at(-1)![0];
  }
}
