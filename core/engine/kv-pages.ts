/** KvPages: which pages of the key/value cache are free. Page ids only; the bytes are the backend's. */

export class KvPages {
  readonly pageTokens: number;
  readonly pages: number;
  readonly #free: number[];

  constructor(pages: number, pageTokens: number) {
    this.pages = pages;
    this.pageTokens = pageTokens;
    this.#free = Array.from({ length: pages }, (_, i) => pages - 1 - i);
  }

  get freePages(): number {
    return this.#free.length;
  }

  /** Pages that hold so many tokens. */
  pagesFor(tokens: number): number {
    return Math.ceil(tokens / this.pageTokens);
  }

  /** Extends a sequence's pages in place to hold `tokens`. False, and nothing taken, when there are not enough. */
  grow(pageIds: number[], tokens: number): boolean {
    const missing = this.pagesFor(tokens) - pageIds.length;
    if (missing > this.#free.length) return false;
    for (let i = 0; i < missing; i++) pageIds.push(this.#free.pop()!);
    return true;
  }

  /** Takes back all pages of a sequence and empties the list. */
  release(pageIds: number[]): void {
    this.#free.push(...pageIds.splice(0).reverse());
    if (this.#free.length > this.pages)
      throw new Error(`${this.#free.length} free pages of ${this.pages}: one was released twice`);
  }
}
