/** Heartbeat: pings a socket, and notices when nothing comes back. */
import { PING } from '../core/protocol.ts';

/** A socket that stays silent for so many heartbeats is dead, whatever TCP thinks. */
const SILENT_HEARTBEATS = 3;

export class Heartbeat {
  #timer: NodeJS.Timeout | null = null;
  #heardMs = 0;

  /** Something came. */
  heard(): void {
    this.#heardMs = performance.now();
  }

  /** Beats for this socket from now on, and no other; calls `onSilent` once when it stays silent. */
  start(socket: WebSocket, everyMs: number, onSilent: () => void): void {
    this.stop();
    this.heard();
    this.#timer = setInterval(() => {
      if (performance.now() - this.#heardMs > everyMs * SILENT_HEARTBEATS) {
        this.stop();
        onSilent();
      } else if (socket.readyState === WebSocket.OPEN) socket.send(PING);
    }, everyMs);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}
