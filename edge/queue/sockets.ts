/** Sockets: the workers' connections of one queue object, what they announced, and whether they live. Survives hibernation in attachments. */
import type { Failure } from '../../core/errors.ts';
import type { EdgeMessage } from '../../core/protocol.ts';
import { PING, PONG } from '../../core/protocol.ts';
import type { Seat } from './policy.ts';
import { SILENT_SOCKET_MS } from './policy.ts';

export interface Worker {
  workerId: string;
  backend: string;
  credits: number;
  draining: boolean;
}

/** At most 16 kB by the platform; this is some 500 bytes. */
interface Attachment {
  model: string;
  connectedMs: number;
  /** null until it said hello and was welcomed. */
  worker: Worker | null;
}

export interface Connection extends Attachment {
  readonly id: string;
  readonly socket: WebSocket;
  /** Jobs leased to it. */
  readonly jobIds: Set<string>;
  lastMessageMs: number;
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
      if (attachment !== null && socket.readyState === WebSocket.OPEN) this.#add(socket, attachment);
    }
  }

  accept(socket: WebSocket, model: string, nowMs: number): void {
    this.#ctx.acceptWebSocket(socket, [crypto.randomUUID()]);
    const attachment: Attachment = { model, connectedMs: nowMs, worker: null };
    socket.serializeAttachment(attachment);
    this.#add(socket, attachment);
  }

  /** null for a socket that was dropped. */
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
    const { model, connectedMs } = connection;
    connection.socket.serializeAttachment({ model, connectedMs, worker } satisfies Attachment);
  }

  /** Connections that may take leases, with their room. */
  seats(nowMs: number): Seat[] {
    return [...this.#connections.values()]
      .filter((connection) => connection.worker?.draining === false && !this.#isSilent(connection, nowMs))
      .map((connection) => ({ socketId: connection.id, free: connection.worker!.credits - connection.jobIds.size }));
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

  #add(socket: WebSocket, attachment: Attachment): void {
    const id = this.#ctx.getTags(socket)[0]!;
    this.#connections.set(id, { ...attachment, id, socket, jobIds: new Set(), lastMessageMs: attachment.connectedMs });
  }

  #isSilent(connection: Connection, nowMs: number): boolean {
    const pingedMs = this.#ctx.getWebSocketAutoResponseTimestamp(connection.socket)?.getTime() ?? 0;
    return nowMs - Math.max(pingedMs, connection.lastMessageMs) > SILENT_SOCKET_MS;
  }
}
