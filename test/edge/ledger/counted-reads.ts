/** CountedReads: an object's SQL that knows how many rows were read through it: Cloudflare bills them. */
export class CountedReads {
  readonly sql: SqlStorage;
  readonly #cursors: { rowsRead: number }[] = [];

  constructor(sql: SqlStorage) {
    const exec = (query: string, ...bindings: SqlStorageValue[]) => {
      const cursor = sql.exec(query, ...bindings);
      this.#cursors.push(cursor);
      return cursor;
    };
    this.sql = { exec } as unknown as SqlStorage;
  }

  get rowsRead(): number {
    return this.#cursors.reduce((sum, cursor) => sum + cursor.rowsRead, 0);
  }
}
