/**
 * Fallback object: a model's stand-in for workers. To the queue it is one: it says hello over a socket, takes leases, sends frames.
 * The queue opens the socket, because this script must not depend on the queue's. Computing goes in slices, each an event of its own:
 * after a slice it sends PING and goes on when PONG comes, so that no event nears the platform's CPU limit and leases, cancels and
 * frames pass in between. It stores nothing: what it answered lies in the queue, which leases a job again with the tokens so far.
 */
import { DurableObject } from 'cloudflare:workers';
import { Leases } from '../../core/engine/leases.ts';
import { describe, type Failure, failureOf, toHttp } from '../../core/errors.ts';
import type { Frame, ModelCard, WorkerMessage } from '../../core/protocol.ts';
import { EdgeMessage, PING, PONG, PROTOCOL_VERSION, parseMessage } from '../../core/protocol.ts';
import type { Outcome } from '../api/service.ts';
import { moveIn, moveOut, type Occupant } from './isolate-memory.ts';
import { LIMIT_BYTES, type MemoryPlan } from './memory-plan.ts';
import { openR2Model } from './r2-files.ts';
import { cardOf, loadResident, planModel, type Resident, SLOTS } from './resident.ts';

/**
 * Work of one slice in weights × tokens: some 10 to 50 ms of a core. Counted and not timed, because a Worker's clock stands still
 * while it computes. And at most so many tokens of a stream, so that those of the smallest models do not arrive in lumps.
 */
const SLICE_WORK = 500_000_000;
const SLICE_STEPS = 8;

export interface FallbackEnv {
  MODELS: R2Bucket;
}

interface Link {
  id: string;
  socket: WebSocket;
  resident: Resident;
  leases: Leases;
  /** A PING was sent and its PONG has not come. */
  asked: boolean;
}

export class FallbackObject extends DurableObject<FallbackEnv> implements Occupant {
  #resident: Promise<Resident> | null = null;
  #loading = false;
  #link: Link | null = null;

  constructor(ctx: DurableObjectState, env: FallbackEnv) {
    super(ctx, env);
    // A socket that outlived an earlier instance has leases that nobody holds: it says farewell, and the queue opens another.
    for (const socket of ctx.getWebSockets()) farewell(socket);
  }

  /** The model as the catalog lists it, or why this object cannot run it; no weight is read. */
  async describe(model: string): Promise<Outcome<ModelCard>> {
    try {
      const files = openR2Model(this.env.MODELS, model);
      return { ok: true, value: await cardOf(files, model, await planModel(files)) };
    } catch (error) {
      return { ok: false, failure: failureOf(error) };
    }
  }

  /** What the loaded model takes, planned and now; null when none is loaded. */
  async memory(): Promise<{ plan: MemoryPlan; wasmBytes: number } | null> {
    const resident = await this.#resident;
    return resident === null ? null : { plan: resident.plan, wasmBytes: resident.backend.memoryBytes };
  }

  /** GET /link?model=M from the model's queue. Answers when the model is loaded: 101, or why it cannot be. */
  override async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    if (url.pathname !== '/link' || request.headers.get('upgrade') !== 'websocket')
      return refusal({ code: 'route_not_found' });
    try {
      const resident = await this.#load(url.searchParams.get('model') ?? '');
      return new Response(null, { status: 101, webSocket: this.#accept(resident) });
    } catch (error) {
      const failure = failureOf(error);
      console.error({ event: 'model_not_loaded', reason: describe(failure) });
      return refusal(failure);
    }
  }

  /**
   * For another model in this isolate: an idle one is loaded again when it is needed. Called by another object, whose event may not
   * touch this one's socket: the next message over it finds the model gone.
   */
  leave(): boolean {
    if (this.#loading || this.#link?.leases.busy) return false;
    this.#resident = null;
    this.#link = null;
    return true;
  }

  override async webSocketMessage(socket: WebSocket, text: string | ArrayBuffer): Promise<void> {
    const link = this.#linkOf(socket);
    if (link === null) return farewell(socket);
    if (text === PONG) return this.#slice(link);
    const message = parseMessage(EdgeMessage, typeof text === 'string' ? text : '');
    if (!message.ok) return socket.close(1008, 'not a message of the protocol');
    switch (message.value.type) {
      case 'lease': {
        const { job, epoch, emittedIds } = message.value;
        send(link, link.leases.lease(job, epoch, emittedIds));
        return this.#ask(link);
      }
      case 'cancel':
        return link.leases.cancel(message.value.jobId);
      case 'refused':
        console.error({ event: 'fallback_refused', failure: message.value.failure });
        return;
      // Nothing is kept for replay: a lost answer is computed again from the queue's tokens.
      case 'welcome':
      case 'ack':
      case 'kept':
      case 'ended':
      case 'credits':
      case 'demand':
        return;
      default:
        message.value satisfies never;
    }
  }

  override webSocketClose(socket: WebSocket): void {
    const link = this.#linkOf(socket);
    if (link !== null) this.#end(link);
  }

  override webSocketError(socket: WebSocket): void {
    this.webSocketClose(socket);
  }

  #accept(resident: Resident): WebSocket {
    if (this.#link !== null) this.#end(this.#link);
    const [client, server] = Object.values(new WebSocketPair());
    const id = crypto.randomUUID();
    this.ctx.acceptWebSocket(server!, [id]);
    const leases = new Leases(resident.engine, (line) => console.warn({ event: 'fallback', line }));
    this.#link = { id, socket: server!, resident, leases, asked: false };
    const hello: WorkerMessage = {
      type: 'hello',
      protocol: PROTOCOL_VERSION,
      workerId: `fallback-${id}`,
      backend: 'edge-wasm',
      model: resident.card,
      credits: SLOTS,
      leases: [],
    };
    server!.send(JSON.stringify(hello));
    return client!;
  }

  #linkOf(socket: WebSocket): Link | null {
    return this.#link !== null && this.ctx.getTags(socket)[0] === this.#link.id ? this.#link : null;
  }

  #end(link: Link): void {
    this.#link = null;
    link.leases.cancelAll();
    farewell(link.socket);
  }

  /** One event's worth of steps. */
  async #slice(link: Link): Promise<void> {
    link.asked = false;
    const { engine, parameters } = link.resident;
    const frames: Frame[] = [];
    let work = 0;
    for (let step = 0; step < SLICE_STEPS && work < SLICE_WORK && link.leases.busy; step++) {
      frames.push(...(await link.leases.step()));
      work += engine.stepTokens * parameters;
    }
    send(link, frames);
    this.#ask(link);
  }

  #ask(link: Link): void {
    if (link.asked || !link.leases.busy) return;
    link.asked = true;
    link.socket.send(PING);
  }

  #load(model: string): Promise<Resident> {
    if (this.#resident !== null) return this.#resident;
    this.#loading = true;
    this.#resident = this.#loadNow(model)
      .catch((error: unknown) => {
        this.#resident = null;
        throw error;
      })
      .finally(() => {
        this.#loading = false;
      });
    return this.#resident;
  }

  async #loadNow(model: string): Promise<Resident> {
    const files = openR2Model(this.env.MODELS, model);
    const planned = await planModel(files);
    const { weightBytes, kvBytes, stepBytes, heapBytes } = planned.plan;
    moveIn(model, weightBytes + kvBytes + stepBytes + heapBytes, this, LIMIT_BYTES);
    try {
      return await loadResident(files, model, planned);
    } catch (error) {
      moveOut(model);
      throw error;
    }
  }
}

/** Its leases are free and it did not die of them. */
function farewell(socket: WebSocket): void {
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ type: 'draining' } satisfies WorkerMessage));
  socket.close(1000, 'bye');
}

function send(link: Link, frames: Frame[]): void {
  if (frames.length > 0) link.socket.send(JSON.stringify({ type: 'frames', frames } satisfies WorkerMessage));
}

function refusal(failure: Failure): Response {
  return Response.json({ failure }, { status: toHttp(failure).status });
}
