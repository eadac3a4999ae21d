/** Scripted worker: a client of the link that says what a test tells it to, over a real WebSocket. */
import { exports } from 'cloudflare:workers';
import type { EdgeMessage, Frame, HeldLease, ModelCard, TokenOut, WorkerMessage } from '../../core/protocol.ts';
import { PROTOCOL_VERSION } from '../../core/protocol.ts';

/** Enough of a lease to speak of it. */
type Held = Pick<Lease, 'epoch'> & { job: { id: string } };
export type Lease = Extract<EdgeMessage, { type: 'lease' }>;

let numWorkers = 0;

export class ScriptedWorker {
  readonly workerId: string;
  readonly #socket: WebSocket;
  readonly #inbox: EdgeMessage[] = [];
  readonly #readers: (() => void)[] = [];
  #answer: ((lease: Lease) => void) | null = null;
  closed = false;

  private constructor(socket: WebSocket, workerId: string) {
    this.#socket = socket;
    this.workerId = workerId;
    socket.accept();
    socket.addEventListener('message', ({ data }) => {
      const message: EdgeMessage = JSON.parse(data as string);
      if (message.type === 'lease' && this.#answer !== null) return this.#answer(message);
      this.#inbox.push(message);
      this.#wake();
    });
    socket.addEventListener('close', () => {
      this.closed = true;
      this.#wake();
    });
  }

  /** Dials in without saying hello. */
  static async dial(token: string, model: ModelCard, workerId?: string): Promise<ScriptedWorker> {
    numWorkers += 1;
    const response = await exports.default.fetch(`http://edge/link?model=${encodeURIComponent(model.id)}`, {
      headers: { upgrade: 'websocket', authorization: `Bearer ${token}` },
    });
    if (response.webSocket === null) throw new Error(`the link answered ${response.status}`);
    return new ScriptedWorker(response.webSocket, workerId ?? `worker-${numWorkers}`);
  }

  /** Dials in, says hello and waits for the welcome. */
  static async connect(
    token: string,
    model: ModelCard,
    options: { credits?: number; workerId?: string; leases?: HeldLease[] } = {},
  ): Promise<ScriptedWorker> {
    const worker = await ScriptedWorker.dial(token, model, options.workerId);
    worker.hello(model, options.credits ?? 4, { leases: options.leases ?? [] });
    await worker.next('welcome');
    return worker;
  }

  hello(model: ModelCard, credits: number, more: { protocol?: number; leases?: HeldLease[] } = {}): void {
    const { protocol = PROTOCOL_VERSION, leases = [] } = more;
    this.send({ type: 'hello', protocol, workerId: this.workerId, backend: 'reference', model, credits, leases });
  }

  send(message: WorkerMessage): void {
    this.#socket.send(JSON.stringify(message));
  }

  frames(...frames: Frame[]): void {
    this.send({ type: 'frames', frames });
  }

  start(lease: Held, promptTokens = 3): void {
    this.frames({ ...of(lease), kind: 'started', promptTokens, cachedTokens: 0 });
  }

  tokens(lease: Held, from: number, count: number): void {
    this.frames({ ...of(lease), kind: 'tokens', from, tokens: tokensOf(from, count) });
  }

  finish(lease: Held, tokens: number): void {
    this.frames({ ...of(lease), kind: 'finished', reason: 'length', tokens, text: '' });
  }

  /** Answers every lease from now on with this many tokens, in one message a lease. */
  serve(count: number): void {
    this.#answer = (lease) =>
      this.frames(
        { ...of(lease), kind: 'started', promptTokens: 3, cachedTokens: 0 },
        { ...of(lease), kind: 'tokens', from: 0, tokens: tokensOf(0, count) },
        { ...of(lease), kind: 'finished', reason: 'length', tokens: count, text: '' },
      );
  }

  /** The next message of a kind; others stay for later. */
  async next<Type extends EdgeMessage['type']>(type: Type): Promise<Extract<EdgeMessage, { type: Type }>> {
    for (;;) {
      const at = this.#inbox.findIndex((message) => message.type === type);
      if (at >= 0) return this.#inbox.splice(at, 1)[0] as Extract<EdgeMessage, { type: Type }>;
      if (this.closed) throw new Error(`the socket closed before a ${type}`);
      await new Promise<void>((resolve) => this.#readers.push(resolve));
    }
  }

  async untilClosed(): Promise<void> {
    while (!this.closed) await new Promise<void>((resolve) => this.#readers.push(resolve));
  }

  close(): void {
    this.#socket.close(1000, 'bye');
  }

  #wake(): void {
    for (const resolve of this.#readers.splice(0)) resolve();
  }
}

function of(lease: Held) {
  return { jobId: lease.job.id, epoch: lease.epoch };
}

/** Tokens whose ids are their places, " 0", " 1", … */
function tokensOf(from: number, count: number): TokenOut[] {
  return Array.from({ length: count }, (_, at) => ({
    id: from + at,
    logprob: -1,
    text: ` ${from + at}`,
    special: false,
    top: [],
  }));
}
