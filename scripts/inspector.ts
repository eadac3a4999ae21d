/** Inspector: a client of V8's inspector protocol, which tells what memory an isolate of workerd holds. */

export interface HeapUsage {
  /** JavaScript's heap, garbage that was not collected yet included. */
  heapBytes: number;
  /** What V8 has taken from the system for that heap. */
  committedBytes: number;
  /** Backing stores of ArrayBuffers. */
  bufferBytes: number;
}

export class Inspector {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (answer: unknown) => void>();
  #id = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => {
      const { id, result, error } = JSON.parse(String(data));
      if (id === undefined) return;
      this.#waiting.get(id)?.(error === undefined ? result : { error });
      this.#waiting.delete(id);
    });
  }

  static async connect(port: number): Promise<Inspector> {
    const targets = (await (await fetch(`http://127.0.0.1:${port}/json`)).json()) as { webSocketDebuggerUrl: string }[];
    // Wrangler's inspector asks where a page comes from.
    const headers = { origin: 'http://localhost' };
    const socket = new WebSocket(targets[0]!.webSocketDebuggerUrl, { headers } as unknown as string[]);
    await new Promise((resolve, reject) => {
      socket.addEventListener('open', resolve);
      socket.addEventListener('error', reject);
    });
    const inspector = new Inspector(socket);
    await inspector.#ask('Runtime.enable');
    return inspector;
  }

  async usage(): Promise<HeapUsage> {
    const heap = await this.#ask('Runtime.getHeapUsage');
    return { heapBytes: heap.usedSize!, committedBytes: heap.totalSize!, bufferBytes: heap.backingStorageSize! };
  }

  close(): void {
    this.#socket.close();
  }

  async #ask(method: string): Promise<Record<string, number>> {
    const id = ++this.#id;
    const answer = new Promise((resolve) => this.#waiting.set(id, resolve));
    this.#socket.send(JSON.stringify({ id, method, params: {} }));
    const result = (await answer) as Record<string, number>;
    if ('error' in result) throw new Error(`${method}: ${JSON.stringify(result.error)}`);
    return result;
  }
}
