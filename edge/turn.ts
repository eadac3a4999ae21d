/** Turn: lets calls that arrive together go on together: what an object writes in one task is one commit, and each commit is a flush of the disk. */

/** From so many at once on, waiting for each other costs less than flushing for each. */
const CROWD = 4;

export class Turn {
  #next: Promise<void> | null = null;

  /** Resolves when all that has arrived was handed over, and all that wait go on in one task, in their order; at once for one of few. */
  async next(numAtOnce: number): Promise<void> {
    if (numAtOnce < CROWD && this.#next === null) return;
    this.#next ??= scheduler.wait(0).then(() => {
      this.#next = null;
    });
    await this.#next;
  }
}
