/** Queue: the Durable Object that owns the jobs of one model and leases them to workers. The shell: HTTP, sockets, alarm. */
import { DurableObject } from 'cloudflare:workers';
import type { Failure } from '../../core/errors.ts';
import { toHttp } from '../../core/errors.ts';
import type { Job } from '../../core/protocol.ts';
import { PING, PONG, PROTOCOL_VERSION, parseMessage, WorkerMessage } from '../../core/protocol.ts';
import type { QueueLoad } from '../api/admin-metrics.ts';
import type { QueueJob } from '../api/books.ts';
import { CATALOG_NAME } from '../catalog/object.ts';
import type { Env } from '../env.ts';
import { queueDepth, queueTimeoutMs } from '../env.ts';
import type { Grant } from '../ledger/grant.ts';
import { Dispatcher } from './dispatcher.ts';
import { FallbackLink } from './fallback-link.ts';
import { Outbox } from './outbox.ts';
import { jobsAfter } from './overview.ts';
import { type FallbackPolicy, nextWakeMs, WAKE_MS } from './policy.ts';
import type { EventReader, ReaderLoad } from './reader.ts';
import type { Connection } from './sockets.ts';
import { Sockets } from './sockets.ts';
import { QueueStore } from './store.ts';

/** Workers ping this often. */
const HEARTBEAT_MS = 15_000;
/** How often time is looked at while there are jobs; in between the object may hibernate. */
const TICK_MS = 1_000;

/** Body of POST /jobs. */
export interface Submit {
  grant: Grant;
  job: Job;
  /** The model's, as the catalog has it now. */
  fallback: FallbackPolicy;
}

/** The object that has a model's jobs. There is one shard until a later issue. */
export function queueName(model: string, shard = 0): string {
  return `${model}#${shard}`;
}

export class QueueObject extends DurableObject<Env> {
  readonly #store: QueueStore;
  readonly #sockets: Sockets;
  readonly #outbox: Outbox;
  readonly #dispatcher: Dispatcher;
  readonly #fallback: FallbackLink;
  #fallbackModel = '';
  /** Of the connection to it. */
  #fallbackId: string | null = null;
  #alarmMs: number | null = null;
  #ticker: ReturnType<typeof setInterval> | null = null;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#store = new QueueStore(ctx.storage);
    this.#sockets = new Sockets(ctx);
    this.#outbox = new Outbox(this.#store, env.ACCOUNT);
    this.#fallback = new FallbackLink(env.FALLBACK, (socket) => this.#adopt(socket));
    this.#dispatcher = new Dispatcher(this.#store, this.#sockets, this.#outbox, (model) => {
      this.#fallbackModel = model;
      void this.#fallback.open(model);
    });
    this.#dispatcher.restore();
    this.#keepTime();
  }

  override async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const route = `${request.method} ${url.pathname}`;
    if (route === 'GET /link') return this.#link(url.searchParams.get('model') ?? '');
    if (route === 'POST /jobs') return this.#submit(request);
    const events = /^GET \/jobs\/([0-9A-Za-z]+)\/events$/.exec(route);
    if (events !== null) return this.#attach(events[1]!, url.searchParams.get('from') ?? '0', request.signal);
    return refusal({ code: 'route_not_found' });
  }

  /** Which of these jobs this object has, living, ended or not settled: the ledger asks before it releases a reservation. */
  known(jobIds: string[]): string[] {
    return this.#store.known(jobIds);
  }

  /** For /metrics. */
  load(): QueueLoad {
    return this.#dispatcher.load();
  }

  /** For reconciliation: its jobs after a place in the order of arrival. */
  jobs(after: number, limit: number): QueueJob[] {
    return jobsAfter(this.ctx.storage.sql, after, limit);
  }

  /** What each reader of a job holds in memory. */
  readers(): ReaderLoad[] {
    return this.#dispatcher.readers();
  }

  /** Lets a quarantined worker in again. */
  reinstate(workerId: string): void {
    this.#store.reinstate(workerId);
  }

  override async webSocketMessage(socket: WebSocket, text: string | ArrayBuffer): Promise<void> {
    const connection = this.#sockets.of(socket);
    if (connection !== null) await this.#receive(connection, text);
  }

  async #receive(connection: Connection, text: string | ArrayBuffer): Promise<void> {
    connection.lastMessageMs = Date.now();
    const message = parseMessage(WorkerMessage, typeof text === 'string' ? text : '');
    if (!message.ok) return this.#refuse(connection, message.failure);
    switch (message.value.type) {
      case 'hello':
        return this.#hello(connection, message.value);
      case 'frames':
        return this.#dispatcher.frames(connection, message.value.frames);
      case 'draining':
        if (connection.worker !== null) this.#sockets.announce(connection, { ...connection.worker, draining: true });
        return;
      default:
        message.value satisfies never;
    }
  }

  override webSocketClose(socket: WebSocket): void {
    const connection = this.#sockets.of(socket);
    if (connection !== null) this.#dispatcher.disconnect(connection);
  }

  override webSocketError(socket: WebSocket): void {
    this.webSocketClose(socket);
  }

  override async alarm(): Promise<void> {
    this.#alarmMs = null;
    this.#dispatcher.tick(queueTimeoutMs(this.env));
    const nowMs = Date.now();
    await this.#outbox.flush(nowMs);
    this.#store.drop(nowMs);
    this.#keepTime();
  }

  async #submit(request: Request): Promise<Response> {
    const { grant, job, fallback } = (await request.json()) as Submit;
    const submitted = this.#dispatcher.submit(grant, JSON.stringify(job), fallback, queueDepth(this.env));
    if (!submitted.ok) return refusal(submitted.failure);
    this.#keepTime();
    return this.#attach(grant.jobId, '0', request.signal);
  }

  #attach(jobId: string, from: string, signal: AbortSignal): Response {
    const reader = /^\d{1,9}$/.test(from) ? this.#dispatcher.read(jobId, Number(from)) : null;
    if (reader === null) return refusal({ code: 'job_not_found' });
    this.#leaveOnAbort(jobId, reader, signal);
    this.#keepTime();
    return new Response(reader.stream, { headers: { 'content-type': 'application/x-ndjson' } });
  }

  #leaveOnAbort(jobId: string, reader: EventReader, signal: AbortSignal): void {
    if (signal.aborted) this.#dispatcher.leave(jobId, reader);
    else signal.addEventListener('abort', () => this.#dispatcher.leave(jobId, reader));
  }

  #link(model: string): Response {
    const [client, server] = Object.values(new WebSocketPair());
    this.#sockets.accept(server!, model, Date.now());
    return new Response(null, { status: 101, webSocket: client! });
  }

  /** The fallback speaks as a worker does. Nobody answers its pings for this object, which opened the socket itself. */
  #adopt(socket: WebSocket): void {
    const connection = this.#sockets.adopt(socket, this.#fallbackModel, Date.now());
    this.#fallbackId = connection.id;
    const end = () => this.#endFallback(connection);
    socket.addEventListener('message', ({ data }) => {
      if (this.#fallbackId !== connection.id) return;
      if (data === PING) socket.send(PONG);
      else void this.#receive(connection, data);
    });
    socket.addEventListener('close', end);
    socket.addEventListener('error', end);
    socket.accept();
    this.#keepTime();
  }

  #endFallback(connection: Connection | null): void {
    if (connection === null || this.#fallbackId !== connection.id) return;
    this.#fallbackId = null;
    this.#fallback.lost();
    this.#dispatcher.disconnect(connection);
  }

  async #hello(connection: Connection, hello: Extract<WorkerMessage, { type: 'hello' }>): Promise<void> {
    const { protocol, workerId, backend, model, credits, leases } = hello;
    const invalid = (param: string, reason: string) =>
      this.#refuse(connection, { code: 'invalid_request', param, reason });
    if ((backend === 'edge-wasm') !== (connection.kind === 'fallback'))
      return invalid('backend', `"edge-wasm" is the name of the edge's own fallback.`);
    if (protocol !== PROTOCOL_VERSION)
      return invalid('protocol', `The edge speaks protocol ${PROTOCOL_VERSION}, the worker ${protocol}.`);
    if (model.id !== connection.model)
      return invalid('model', `The socket is for "${connection.model}", the worker serves "${model.id}".`);
    const reason = this.#store.quarantineOf(workerId);
    if (reason !== null) return this.#refuse(connection, { code: 'conflict', reason: 'This worker is quarantined.' });
    try {
      // The fallback's card, with a context that its memory allows, came when it was switched on; a worker's replaces it.
      if (connection.kind === 'worker') await this.env.CATALOG.getByName(CATALOG_NAME).register(model);
    } catch (error) {
      console.error({ event: 'catalog_did_not_answer', model: model.id, error: String(error) });
      // Closed, not refused: the worker comes back and says hello again.
      return this.#dispatcher.disconnect(connection);
    }
    if (this.#sockets.get(connection.id) === null) return;
    this.#sockets.announce(connection, { workerId, backend, credits, draining: false });
    this.#sockets.send(connection, { type: 'welcome', protocol: PROTOCOL_VERSION, heartbeatMs: HEARTBEAT_MS });
    this.#dispatcher.welcome(connection, leases);
  }

  #refuse(connection: Connection, failure: Failure): void {
    console.warn({ event: 'worker_refused', workerId: connection.worker?.workerId ?? null, failure });
    this.#sockets.refuse(connection, failure);
    this.#dispatcher.disconnect(connection);
    if (this.#fallbackId === connection.id) this.#endFallback(connection);
  }

  /** Ticks while there are jobs, and sets the alarm that outlives this instance. */
  #keepTime(): void {
    if (!this.#dispatcher.idle || !this.#fallback.isClosed) this.#ticker ??= setInterval(() => this.#tick(), TICK_MS);
    const unsettled = !this.#dispatcher.idle || this.#store.numUnsettled() > 0;
    if (unsettled && this.#alarmMs !== null && this.#alarmMs <= Date.now() + WAKE_MS) return;
    const wakeMs = nextWakeMs(unsettled, this.#store.nextDropMs(), Date.now());
    if (wakeMs === null || (this.#alarmMs !== null && this.#alarmMs <= wakeMs)) return;
    this.#alarmMs = wakeMs;
    this.ctx.storage.setAlarm(wakeMs);
  }

  #tick(): void {
    this.#dispatcher.tick(queueTimeoutMs(this.env));
    const nowMs = Date.now();
    void this.#outbox.flush(nowMs);
    const connection = this.#fallbackId === null ? null : this.#sockets.get(this.#fallbackId);
    if (this.#fallback.isIdle(connection?.jobIds.size ?? 0, nowMs)) this.#endFallback(connection);
    if (!this.#dispatcher.idle || !this.#fallback.isClosed) return;
    clearInterval(this.#ticker!);
    this.#ticker = null;
  }
}

/** A failure between objects: as itself, under its HTTP status. */
function refusal(failure: Failure): Response {
  return Response.json({ failure }, { status: toHttp(failure).status });
}
