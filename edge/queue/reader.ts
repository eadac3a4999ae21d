/** Event reader: one response's walk along its job's events, as NDJSON. It keeps a place and no events, so a slow reader costs no memory. */
import type { JobEvent } from '../api/service.ts';
import { WAITING_MS } from './policy.ts';

/** Enough to keep a connection busy; past it the reader waits and reads on from storage. */
const BUFFER_BYTES = 65_536;

/** What a reader has had. */
export interface Place {
  started: boolean;
  tokens: number;
}

/** What a reader holds in this object's memory, and how much has ever gone through it. */
export interface ReaderLoad {
  jobId: string;
  bufferedBytes: number;
  writtenBytes: number;
}

export class EventReader {
  readonly stream: ReadableStream<Uint8Array>;
  readonly #next: (place: Place) => JobEvent | null;
  readonly #place: Place;
  readonly #encoder = new TextEncoder();
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  #lastWriteMs: number;
  #writtenBytes = 0;
  /** A waiting read makes `enqueue` call `pull`, which must not start a second walk. */
  #pumping = false;

  /** `next`: the event after a place, null when there is none yet. `onCancel`: the reader went away. */
  constructor(next: (place: Place) => JobEvent | null, fromToken: number, onCancel: () => void, nowMs: number) {
    this.#next = next;
    this.#place = { started: false, tokens: fromToken };
    this.#lastWriteMs = nowMs;
    this.stream = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        pull: () => this.pump(),
        cancel: () => {
          if (this.#controller === null) return;
          this.#controller = null;
          onCancel();
        },
      },
      new ByteLengthQueuingStrategy({ highWaterMark: BUFFER_BYTES }),
    );
  }

  /** Whether the end of the job went out, or the reader is gone. */
  get closed(): boolean {
    return this.#controller === null;
  }

  load(jobId: string): ReaderLoad {
    const bufferedBytes = this.#controller === null ? 0 : BUFFER_BYTES - (this.#controller.desiredSize ?? 0);
    return { jobId, bufferedBytes, writtenBytes: this.#writtenBytes };
  }

  /** Sends what there is, as far as the buffer takes it. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#controller !== null && (this.#controller.desiredSize ?? 0) > 0) {
      const event = this.#next(this.#place);
      if (event === null) break;
      this.#write(event);
      if (event.type === 'started') this.#place.started = true;
      else if (event.type === 'tokens') this.#place.tokens = event.from + event.tokens.length;
      else if (event.type !== 'waiting') this.#close();
    }
    this.#pumping = false;
  }

  /** Says `waiting` when nothing was sent for a while. */
  keepAlive(nowMs: number): void {
    if (this.#controller === null || (this.#controller.desiredSize ?? 0) <= 0) return;
    if (nowMs - this.#lastWriteMs >= WAITING_MS) this.#write({ type: 'waiting' });
  }

  /** Ends the stream without its end event. */
  abort(reason: string): void {
    this.#controller?.error(new Error(reason));
    this.#controller = null;
  }

  #write(event: JobEvent): void {
    const bytes = this.#encoder.encode(`${JSON.stringify(event)}\n`);
    this.#controller?.enqueue(bytes);
    this.#writtenBytes += bytes.byteLength;
    this.#lastWriteMs = Date.now();
  }

  #close(): void {
    this.#controller?.close();
    this.#controller = null;
  }
}
