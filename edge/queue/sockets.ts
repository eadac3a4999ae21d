/**
 * Sockets: the connections of one queue object, what workers announced over them, and whether they live. Those of workers survive
 * hibernation in their attachments; the one to the fallback, which the object opened itself, goes with the instance.
 */
import type { Failure } from '../../core/errors.ts';
import type { EdgeMessage } from '../../core/protocol.ts';
import { PING, PONG } from '../../core/protocol.ts';
import type { Caller } from '../api/service.ts';
import type { Seat, SeatKind } from './policy.ts';
import { SILENT_SOCKET_MS, TRUST_MS } from './policy.ts';

export interface Worker {
  workerId: string;
  backend: string;
  credits: number;
  draining: boolean;
}

/** Before the id of a connection to the fallback, so that a lease tells whose it was after the connection is gone. */
const FALLBACK_PREFIX = 'fallback:';

/** Who had the lease of a connection with this id. */
export function kindOf(socketId: string): SeatKind {
  return socketId.startsWith(FALLBACK_PREFIX) ? 'fallback' : 'worker';
}

/** At most 16 kB by the platform; this is some 700 bytes. */
interface Attachment {
  model: string;
  /** Whose key opened it; null for the fallback. */
  caller: Caller | null;
  connectedMs: number;
  /** null until it said hello and was welcomed. */
  worker: Worker | null;
}

export interface Connection extends Attachment {
  readonly id: string;
  readonly kind: SeatKind;
  readonly socket: WebSocket;
  /** Jobs leased to it. */
  readonly jobIds: Set<string>;
  lastMessageMs: number;
  /** When its key was last found good. */
  checkedMs: number;
  /** Jobs that wait here, as its worker was told. */
  toldWaiting: number;
}

export class Sockets {
  readonly #ctx: DurableObjectState;
  readonly #connections = new Map<string, Connection>();

  /** Finds the sockets that outlived an earlier instance. */
  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx;
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair(PING, PONG));
    for (const socket of ctx.getWebSockets()) {
      const attachment = socket.deserializeAttachment() as Attachment | null;
      if (attachment !== null && socket.readyState === WebSocket.OPEN)
        this.#add(ctx.getTags(socket)[0]!, socket, attachment);
    }
  }

  accept(socket: WebSocket, model: string, caller: Caller | null, nowMs: number): void {
    const id = crypto.randomUUID();
    this.#ctx.acceptWebSocket(socket, [id]);
    const attachment: Attachment = { model, caller, connectedMs: nowMs, worker: null };
    socket.serializeAttachment(attachment);
    this.#add(id, socket, attachment);
  }

  /** A connection that this object opened to the fallback; whoever opened it listens to it. */
  adopt(socket: WebSocket, model: string, nowMs: number): Connection {
    return this.#add(FALLBACK_PREFIX + crypto.randomUUID(), socket, {
      model,
      caller: null,
      connectedMs: nowMs,
      worker: null,
    });
  }

  /** Of a worker's socket; null for one that was dropped. */
  of(socket: WebSocket): Connection | null {
    return this.get(this.#ctx.getTags(socket)[0] ?? '');
  }

  get(id: string): Connection | null {
    return this.#connections.get(id) ?? null;
  }

  ofWorker(workerId: string): Connection[] {
    return [...this.#connections.values()].filter((connection) => connection.worker?.workerId === workerId);
  }

  /** Keeps what a worker announced, through hibernation too. */
  announce(connection: Connection, worker: Worker): void {
    connection.worker = worker;
    if (connection.kind === 'fallback') return;
    const { model, caller, connectedMs } = connection;
    connection.socket.serializeAttachment({ model, caller, connectedMs, worker } satisfies Attachment);
  }

  /** Connections that workers opened. */
  workers(): Connection[] {
    return [...this.#connections.values()].filter(({ kind }) => kind === 'worker');
  }

  /** Whether its key was found good lately. */
  isTrusted(id: string, nowMs: number): boolean {
    const connection = this.#connections.get(id);
    return connection?.kind === 'fallback' || nowMs - (connection?.checkedMs ?? 0) <= TRUST_MS;
  }

  /** Connections that may take leases, with their room. */
  seats(nowMs: number): Seat[] {
    return [...this.#connections.values()]
      .filter((connection) => connection.worker?.draining === false && !this.#isSilent(connection, nowMs))
      .map(({ id, kind, worker, jobIds }) => ({ socketId: id, kind, free: worker!.credits - jobIds.size }));
  }

  silent(nowMs: number): Connection[] {
    return [...this.#connections.values()].filter((connection) => this.#isSilent(connection, nowMs));
  }

  /** A socket that is closing takes nothing; its close event frees its leases. */
  send(connection: Connection, message: EdgeMessage): void {
    if (connection.socket.readyState === WebSocket.OPEN) connection.socket.send(JSON.stringify(message));
  }

  /** Tells a worker why it may not stay, and closes. */
  refuse(connection: Connection, failure: Failure): void {
    this.send(connection, { type: 'refused', failure });
    this.drop(connection, failure.code);
  }

  /** Forgets a connection at once; its close event finds nothing. */
  drop(connection: Connection, reason: string): void {
    this.#connections.delete(connection.id);
    if (connection.socket.readyState === WebSocket.OPEN) connection.socket.close(1008, reason);
  }

  #add(id: string, socket: WebSocket, attachment: Attachment): Connection {
    const { connectedMs } = attachment;
    const rest = { jobIds: new Set<string>(), lastMessageMs: connectedMs, checkedMs: connectedMs, toldWaiting: 0 };
    const connection: Connection = { ...attachment, id, kind: kindOf(id), socket, ...rest };
    this.#connections.set(id, connection);
    return connection;
  }

  /** The fallback has nothing to say between jobs; a lease that it leaves without frames expires like any other. */
  #isSilent(connection: Connection, nowMs: number): boolean {
    if (connection.kind === 'fallback') return false;
    const pingedMs = this.#ctx.getWebSocketAutoResponseTimestamp(connection.socket)?.getTime() ?? 0;
    return nowMs - Math.max(pingedMs, connection.lastMessageMs) > SILENT_SOCKET_MS;
  }
}
