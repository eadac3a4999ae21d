/** Queue: the Durable Object that owns the jobs of one model and leases them to workers. The shell: HTTP, sockets, alarm. */
import { DurableObject } from 'cloudflare:workers';
import type { Failure } from '../../core/errors.ts';
import { toHttp } from '../../core/errors.ts';
import type { Job } from '../../core/protocol.ts';
import { PING, PONG, PROTOCOL_VERSION, parseMessage, WorkerMessage } from '../../core/protocol.ts';
import type { QueueLoad } from '../api/admin-metrics.ts';
import type { QueueJob } from '../api/books.ts';
import type { Caller } from '../api/service.ts';
import { CATALOG_NAME } from '../catalog/object.ts';
import type { Env } from '../env.ts';
import { queueDepth, queueShards, queueTimeoutMs } from '../env.ts';
import type { Grant } from '../ledger/grant.ts';
import { Turn } from '../turn.ts';
import { Dispatcher } from './dispatcher.ts';
import { FallbackLink } from './fallback-link.ts';
import { type Hello, refusalOfHello } from './greeting.ts';
import { Outbox } from './outbox.ts';
import { jobsAfter } from './overview.ts';
import { type FallbackPolicy, nextWakeMs, WAKE_MS } from './policy.ts';
import type { EventReader, ReaderLoad } from './reader.ts';
import { Review } from './review.ts';
import { LOAD } from './shards.ts';
import type { Connection } from './sockets.ts';
import { Sockets } from './sockets.ts';
import { QueueStore } from './store.ts';

/** Workers ping this often. */
const HEARTBEAT_MS = 15_000;
/** How often time is looked at while there are jobs; in between the object may hibernate. */
const TICK_MS = 1_000;

/** Header of GET /link: whose key opened the socket, as JSON. */
export const CALLER = 'x-nibble-caller';

/** Body of POST /jobs. */
export interface Submit {
  grant: Grant;
  job: Job;
  /** The model's, as the catalog has it now. */
  fallback: FallbackPolicy;
}

export class QueueObject extends DurableObject<Env> {
  readonly #store: QueueStore;
  readonly #sockets: Sockets;
  readonly #outbox: Outbox;
  readonly #dispatcher: Dispatcher;
  readonly #fallback: FallbackLink;
  readonly #review: Review;
  readonly #turn = new Turn();
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
    this.#review = new Review(this.#sockets, env.ACCOUNT, (connection, failure) => this.#refuse(connection, failure));
    this.#dispatcher.restore();
    this.#keepTime();
  }

  override async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const route = `${request.method} ${url.pathname}`;
    if (route === 'GET /link') return this.#link(url.searchParams.get('model') ?? '', request.headers.get(CALLER));
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
    return this.#dispatcher.tally();
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
      case 'credits':
        return this.#setCredits(connection, message.value.credits);
      case 'draining':
        if (connection.worker !== null) this.#sockets.announce(connection, { ...connection.worker, draining: true });
        return;
      default:
        message.value satisfies never;
    }
  }

  /** Its answer leaves after every lease made under the credits of before. */
  #setCredits(connection: Connection, credits: number): void {
    if (connection.worker === null) return;
    this.#sockets.announce(connection, { ...connection.worker, credits });
    this.#sockets.send(connection, { type: 'credits', credits });
    this.#dispatcher.dispatch();
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
    await Promise.all([this.#outbox.flush(nowMs), this.#look(nowMs)]);
    this.#store.drop(nowMs);
    this.#keepTime();
  }

  async #submit(request: Request): Promise<Response> {
    const { grant, job, fallback } = (await request.json()) as Submit;
    await this.#turn.next(this.#dispatcher.size);
    const submitted = this.#dispatcher.submit(grant, JSON.stringify(job), fallback, queueDepth(this.env));
    if (!submitted.ok) return this.#loaded(refusal(submitted.failure));
    void this.#look(Date.now());
    this.#keepTime();
    return this.#loaded(this.#attach(grant.jobId, '0', request.signal));
  }

  /** With this queue's load, by which the edge chooses among shards. */
  #loaded(response: Response): Response {
    response.headers.set(LOAD, String(this.#dispatcher.backlog));
    return response;
  }

  #attach(jobId: string, from: string, signal: AbortSignal): Response {
    if (!/^\d{1,9}$/.test(from)) return refusal({ code: 'job_not_found' });
    const read = this.#dispatcher.read(jobId, Number(from));
    if (!read.ok) return refusal(read.failure);
    const reader = read.value;
    this.#leaveOnAbort(jobId, reader, signal);
    this.#keepTime();
    return new Response(reader.stream, { headers: { 'content-type': 'application/x-ndjson' } });
  }

  #leaveOnAbort(jobId: string, reader: EventReader, signal: AbortSignal): void {
    if (signal.aborted) this.#dispatcher.leave(jobId, reader);
    else signal.addEventListener('abort', () => this.#dispatcher.leave(jobId, reader));
  }

  #link(model: string, caller: string | null): Response {
    const [client, server] = Object.values(new WebSocketPair());
    this.#sockets.accept(server!, model, caller === null ? null : (JSON.parse(caller) as Caller), Date.now());
    this.#keepTime();
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

  async #hello(connection: Connection, hello: Hello): Promise<void> {
    const { workerId, backend, model, credits, leases } = hello;
    const failure = refusalOfHello(hello, connection, this.#store.quarantineOf(workerId));
    if (failure !== null) return this.#refuse(connection, failure);
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
    const shards = queueShards(this.env);
    this.#sockets.send(connection, { type: 'welcome', protocol: PROTOCOL_VERSION, heartbeatMs: HEARTBEAT_MS, shards });
    this.#dispatcher.welcome(connection, leases);
  }

  #refuse(connection: Connection, failure: Failure): void {
    console.warn({ event: 'worker_refused', workerId: connection.worker?.workerId ?? null, failure });
    this.#sockets.refuse(connection, failure);
    this.#dispatcher.disconnect(connection);
    if (this.#fallbackId === connection.id) this.#endFallback(connection);
  }

  /** Looks at the workers' keys; one that is found good may have a lease that waited for it. */
  async #look(nowMs: number): Promise<void> {
    if (await this.#review.run(nowMs)) this.#dispatcher.dispatch();
  }

  /** Ticks while there are jobs, and sets the alarm that outlives this instance. */
  #keepTime(): void {
    if (!this.#dispatcher.idle || !this.#fallback.isClosed) this.#ticker ??= setInterval(() => this.#tick(), TICK_MS);
    const unsettled = !this.#dispatcher.idle || this.#store.numUnsettled() > 0;
    if (unsettled && this.#alarmMs !== null && this.#alarmMs <= Date.now() + WAKE_MS) return;
    const numSockets = this.#sockets.workers().length;
    const wakeMs = nextWakeMs(unsettled, this.#store.nextDropMs(), numSockets, Date.now());
    if (wakeMs === null || (this.#alarmMs !== null && this.#alarmMs <= wakeMs)) return;
    this.#alarmMs = wakeMs;
    this.ctx.storage.setAlarm(wakeMs);
  }

  #tick(): void {
    this.#dispatcher.tick(queueTimeoutMs(this.env));
    const nowMs = Date.now();
    void this.#outbox.flush(nowMs);
    void this.#look(nowMs);
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
