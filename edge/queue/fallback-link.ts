/** Fallback link: the queue's own connection to the object that answers when workers do not. Opened for a job, closed when idle. */
import { describe, type Failure } from '../../core/errors.ts';
import type { Env } from '../env.ts';

/** Loading a tiny model again takes about a second; holding it longer than this keeps two objects in memory for nobody. */
const FALLBACK_IDLE_MS = 30_000;
/** After a refusal: a model that does not fit, or an isolate that holds another one, will not be different in a moment. */
const RETRY_MS = 5_000;

type State =
  | { kind: 'closed'; retryMs: number }
  | { kind: 'opening' }
  /** `idleSinceMs` is null while the fallback has a lease. */
  | { kind: 'open'; idleSinceMs: number | null };

export class FallbackLink {
  readonly #namespace: Env['FALLBACK'];
  readonly #onOpen: (socket: WebSocket) => void;
  #state: State = { kind: 'closed', retryMs: 0 };

  /** `onOpen` gets a socket that was not accepted yet. */
  constructor(namespace: Env['FALLBACK'], onOpen: (socket: WebSocket) => void) {
    this.#namespace = namespace;
    this.#onOpen = onOpen;
  }

  get isClosed(): boolean {
    return this.#state.kind === 'closed';
  }

  /** Asks for a connection to a model's fallback; does nothing while there is one, or soon after a refusal. */
  async open(model: string): Promise<void> {
    if (this.#state.kind !== 'closed' || Date.now() < this.#state.retryMs) return;
    this.#state = { kind: 'opening' };
    const opened = await this.#connect(model).catch((error: unknown) => String(error));
    if (typeof opened === 'string') {
      console.error({ event: 'fallback_refused', model, reason: opened });
      this.#state = { kind: 'closed', retryMs: Date.now() + RETRY_MS };
      return;
    }
    this.#state = { kind: 'open', idleSinceMs: Date.now() };
    this.#onOpen(opened);
  }

  /** The connection is gone; the next job opens another. */
  lost(): void {
    this.#state = { kind: 'closed', retryMs: 0 };
  }

  /** Whether it has had no lease for so long that it should be closed. */
  isIdle(numLeases: number, nowMs: number): boolean {
    if (this.#state.kind !== 'open') return false;
    if (numLeases > 0) this.#state.idleSinceMs = null;
    else this.#state.idleSinceMs ??= nowMs;
    return this.#state.idleSinceMs !== null && nowMs - this.#state.idleSinceMs >= FALLBACK_IDLE_MS;
  }

  async #connect(model: string): Promise<WebSocket | string> {
    if (this.#namespace === undefined) return 'this edge has no FALLBACK binding';
    const url = `https://fallback/link?model=${encodeURIComponent(model)}`;
    const response = await this.#namespace.getByName(model).fetch(url, { headers: { upgrade: 'websocket' } });
    if (response.webSocket !== null) return response.webSocket;
    return describe(((await response.json()) as { failure: Failure }).failure);
  }
}
