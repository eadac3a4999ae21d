/** Link: the worker's outbound WebSocket to one queue of the edge. Connects, says hello, keeps alive, comes back after a loss with the leases it has. */
import { type Failure, NibbleError } from '../core/errors.ts';
import {
  EdgeMessage,
  type Frame,
  type Job,
  type ModelCard,
  PONG,
  PROTOCOL_VERSION,
  parseMessage,
  type WorkerMessage,
} from '../core/protocol.ts';
import { Heartbeat } from './heartbeat.ts';
import { KeptFrames } from './kept-frames.ts';

/** Waits before the first, second … try again; with full jitter, so that a pool does not come back in one wave. */
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 30_000;
/** Tokens of one frame that is sent again, in a message of its own: far below the bound of a message. */
const MAX_REPLAYED_TOKENS = 64;
const DEFAULT_HEARTBEAT_MS = 15_000;

export interface LinkOptions {
  edge: string;
  token: string;
  workerId: string;
  backend: 'reference' | 'wasm' | 'webgpu' | 'cuda';
  model: ModelCard;
  /** Which of the model's queues. */
  shard: number;
  log: (line: string) => void;
}

export interface LinkHandlers {
  /** Leases that the queue may give, as the hello says. */
  creditsOfHello(): number;
  onLease(job: Job, epoch: number, emittedIds: readonly number[]): void;
  /** The lease is void: stop within one step. */
  onCancel(jobId: string, epoch: number): void;
  /** Nothing is kept of this lease any more. */
  onForgotten(jobId: string): void;
  /** `shards`: queues that the model has. */
  onLinked(shards: number): void;
  onLost(): void;
  /** The queue answered a `grant`. */
  onCredits(): void;
  /** So many jobs wait there for room. */
  onDemand(waiting: number): void;
  /** The edge will not have this worker; trying again is useless. */
  onRefused(error: NibbleError): void;
}

export class Link {
  readonly #options: LinkOptions;
  readonly #handlers: LinkHandlers;
  readonly #kept = new KeptFrames();
  #socket: WebSocket | null = null;
  #linked = false;
  #closing = false;
  #draining = false;
  #failedTries = 0;
  readonly #heartbeat = new Heartbeat();
  #retry: NodeJS.Timeout | null = null;

  constructor(options: LinkOptions, handlers: LinkHandlers) {
    this.#options = options;
    this.#handlers = handlers;
  }

  connect(): void {
    const url = this.#url();
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url, {
      headers: { authorization: `Bearer ${this.#options.token}` },
    } as unknown as string[]);
    this.#socket = socket;
    socket.addEventListener('open', () => {
      const { workerId, backend, model } = this.#options;
      const credits = this.#handlers.creditsOfHello();
      const leases = this.#kept.held();
      this.#send({ type: 'hello', protocol: PROTOCOL_VERSION, workerId, backend, model, credits, leases });
      this.#beat(socket, DEFAULT_HEARTBEAT_MS);
    });
    socket.addEventListener('message', ({ data }) => {
      // A socket that was given up or closed may still deliver.
      if (socket !== this.#socket || this.#closing) return;
      this.#heartbeat.heard();
      if (data !== PONG) this.#receive(String(data));
    });
    socket.addEventListener('close', ({ code, reason }) =>
      this.#lost(socket, `closed (${code}${reason ? `, ${reason}` : ''})`),
    );
    // An error is always followed by a close.
    socket.addEventListener('error', () => {});
  }

  /** One message a step. While the link is down frames are kept for its return; a lease of which too much is kept is given up. */
  send(frames: Frame[]): void {
    const flowing = this.#kept.keep(frames);
    if (flowing.length > 0) this.#send({ type: 'frames', frames: flowing });
    for (const { jobId, epoch } of this.#kept.overfull()) {
      this.#options.log(`job ${jobId} is given up: the queue has not acknowledged its frames`);
      if (this.#linked) {
        const failure = { code: 'generation_failed', reason: 'the queue did not acknowledge frames' } as const;
        this.#send({ type: 'frames', frames: [{ jobId, epoch, kind: 'failed', failure }] });
      }
      this.#void(jobId, epoch);
    }
  }

  get linked(): boolean {
    return this.#linked;
  }

  /** Leases of this link that have not ended. */
  get numRunning(): number {
    return this.#kept.numRunning;
  }

  /** Leases that the queue may give at once. */
  grant(credits: number): void {
    this.#send({ type: 'credits', credits });
  }

  /** No new leases from now on. A link that is lost after this does not come back: its leases are void, and it wants no others. */
  drain(): void {
    this.#draining = true;
    this.#send({ type: 'draining' });
  }

  close(): void {
    this.#closing = true;
    this.#stopTimers();
    this.#socket?.close(1000, 'bye');
  }

  #url(): URL {
    const url = new URL('/link', this.#options.edge);
    url.searchParams.set('model', this.#options.model.id);
    url.searchParams.set('shard', String(this.#options.shard));
    return url;
  }

  #void(jobId: string, epoch: number): void {
    if (!this.#kept.has(jobId, epoch)) return;
    this.#kept.forget(jobId, epoch);
    this.#handlers.onCancel(jobId, epoch);
    this.#handlers.onForgotten(jobId);
  }

  #send(message: WorkerMessage): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #receive(text: string): void {
    const parsed = parseMessage(EdgeMessage, text);
    if (!parsed.ok) {
      this.#options.log(
        `the edge sent what is not a message of protocol ${PROTOCOL_VERSION}: ${JSON.stringify(parsed.failure)}`,
      );
      return;
    }
    const message = parsed.value;
    switch (message.type) {
      case 'welcome':
        this.#linked = true;
        this.#failedTries = 0;
        if (this.#socket !== null) this.#beat(this.#socket, message.heartbeatMs);
        if (this.#draining) this.#send({ type: 'draining' });
        this.#handlers.onLinked(message.shards);
        break;
      case 'refused':
        this.#refuse(message.failure);
        break;
      case 'lease':
        this.#kept.begin(message.job.id, message.epoch, message.emittedIds.length);
        this.#handlers.onLease(message.job, message.epoch, message.emittedIds);
        break;
      case 'cancel':
        this.#void(message.jobId, message.epoch);
        break;
      case 'kept':
        this.#replay(message.jobId, message.epoch, message.tokens);
        break;
      case 'ack':
        this.#kept.acknowledge(message.jobId, message.epoch, message.tokens);
        break;
      case 'ended':
        if (!this.#kept.has(message.jobId, message.epoch)) break;
        this.#kept.forget(message.jobId, message.epoch);
        this.#handlers.onForgotten(message.jobId);
        break;
      case 'credits':
        this.#handlers.onCredits();
        break;
      case 'demand':
        this.#handlers.onDemand(message.waiting);
        break;
      default:
        message satisfies never;
    }
  }

  /** Sends what the queue has not, an answer of any length in messages that it takes. */
  #replay(jobId: string, epoch: number, tokens: number): void {
    const frames = this.#kept.replay(jobId, epoch, tokens);
    if (frames !== null) {
      this.#options.log(`job ${jobId} goes on: the queue has ${tokens} tokens of it`);
      for (const frame of frames.flatMap(inPieces)) this.#send({ type: 'frames', frames: [frame] });
      return;
    }
    const failure = { code: 'generation_failed', reason: `the worker has no frames after token ${tokens}` } as const;
    this.#send({ type: 'frames', frames: [{ jobId, epoch, kind: 'failed', failure }] });
    this.#void(jobId, epoch);
  }

  #beat(socket: WebSocket, everyMs: number): void {
    this.#heartbeat.start(socket, everyMs, () => {
      this.#lost(socket, 'silent');
      socket.close();
    });
  }

  #lost(socket: WebSocket, why: string): void {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.#stopTimers();
    const wasLinked = this.#linked;
    this.#linked = false;
    this.#kept.hold();
    this.#handlers.onLost();
    if (this.#closing) return;
    if (this.#draining) {
      for (const { jobId, epoch } of this.#kept.held()) this.#void(jobId, epoch);
      return;
    }
    this.#failedTries++;
    const waitMs = Math.random() * Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failedTries);
    this.#options.log(`link ${wasLinked ? 'lost' : 'not made'}: ${why}; trying again in ${Math.round(waitMs)} ms`);
    this.#retry = setTimeout(() => this.#tryAgain(), waitMs);
  }

  /** A WebSocket does not tell why it was refused, a plain request to the same address does. */
  async #tryAgain(): Promise<void> {
    const response = await fetch(this.#url(), { headers: { authorization: `Bearer ${this.#options.token}` } }).catch(
      () => null,
    );
    if (this.#closing) return;
    if (response !== null) await response.body?.cancel();
    if (response?.status === 401) return this.#refuse({ code: 'invalid_key' });
    if (response?.status === 403) return this.#refuse({ code: 'model_forbidden', model: this.#options.model.id });
    this.connect();
  }

  #refuse(failure: Failure): void {
    this.close();
    this.#handlers.onRefused(new NibbleError(failure));
  }

  #stopTimers(): void {
    this.#heartbeat.stop();
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = null;
  }
}

function inPieces(frame: Frame): Frame[] {
  if (frame.kind !== 'tokens') return [frame];
  const pieces: Frame[] = [];
  for (let at = 0; at < frame.tokens.length; at += MAX_REPLAYED_TOKENS)
    pieces.push({ ...frame, from: frame.from + at, tokens: frame.tokens.slice(at, at + MAX_REPLAYED_TOKENS) });
  return pieces;
}
