/** Client: one request from its first try to its end, as the client that its behaviour describes: it stays, drops, comes back, tries again. */
import { setTimeout as wait } from 'node:timers/promises';
import { nothing, type Received, readStream, readWhole } from './answer.ts';
import type { Asked, Script } from './requests.ts';

/** After this a try counts as hung. */
const HUNG_MS = 300_000;
const MAX_TRIES = 12;
/** Between two tries, where the edge does not say how long. */
const RETRY_MS = 250;
const MAX_RETRY_MS = 2_000;

/** One HTTP request and what came of it. */
export interface Try {
  /** Its Idempotency-Key. */
  key: string | null;
  /** Null where no answer came, or none that names a job. */
  jobId: string | null;
  /** Null: the connection broke before an answer. */
  status: number | null;
  received: Received;
  /** Whether the client dropped it. */
  dropped: boolean;
  /** Whether it goes on where the try before it stopped. */
  resumed: boolean;
}

export interface Outcome {
  asked: Asked;
  tries: Try[];
  /** `left`: the client dropped it for good. `failed`: it gave up. */
  kind: 'finished' | 'left' | 'failed';
}

interface Sent {
  key: string | null;
  lastEventId: string | null;
  /** What the stream goes on with. */
  received: Received;
  /** Drops the connection after so many events or, of a whole answer, milliseconds. */
  dropAfter: number | null;
}

export class Client {
  readonly #url: string;
  readonly #apiKey: string;

  constructor(url: string, apiKey: string) {
    this.#url = url;
    this.#apiKey = apiKey;
  }

  async run(asked: Asked, script: Script): Promise<Outcome[]> {
    if (asked.behaviour.kind !== 'twice') return [await this.#toItsEnd(asked, script)];
    return Promise.all([this.#toItsEnd(asked, script), this.#toItsEnd(asked, script)]);
  }

  async #toItsEnd(asked: Asked, script: Script): Promise<Outcome> {
    const { behaviour } = asked;
    const tries: Try[] = [];
    let key = behaviour.kind === 'stay' || behaviour.kind === 'leave' ? null : asked.key;
    let dropAfter = 'after' in behaviour ? behaviour.after : null;
    let lastEventId: string | null = null;
    let received = nothing();
    while (tries.length < MAX_TRIES) {
      const made = await this.#try(script, { key, lastEventId, received, dropAfter });
      tries.push(made);
      if (made.received.end.kind === 'finished') return { asked, tries, kind: 'finished' };
      if (made.dropped && behaviour.kind !== 'return') return { asked, tries, kind: 'left' };
      // What ended by name stays as it is under its key.
      if (made.received.end.kind === 'failed' && key !== null && made.jobId !== null)
        key = `${asked.key}-${tries.length}`;
      const goesOn = made.dropped && behaviour.kind === 'return' && behaviour.resume === 'event';
      lastEventId = goesOn ? made.received.lastEventId : null;
      received = lastEventId === null ? nothing() : structuredClone(made.received);
      if (made.dropped && behaviour.kind === 'return') await wait(behaviour.awayMs);
      else await wait(RETRY_MS * tries.length);
      dropAfter = null;
    }
    return { asked, tries, kind: 'failed' };
  }

  async #try(script: Script, { key, lastEventId, received, dropAfter }: Sent): Promise<Try> {
    const abort = new AbortController();
    let dropped = false;
    const drop = () => {
      dropped = true;
      abort.abort();
    };
    const made: Try = { key, jobId: null, status: null, received, dropped: false, resumed: lastEventId !== null };
    const hung = setTimeout(() => abort.abort(new Error(`no end within ${HUNG_MS} ms`)), HUNG_MS);
    const timer = dropAfter !== null && !script.streamed ? setTimeout(drop, dropAfter) : null;
    try {
      const response = await fetch(`${this.#url}${script.route}`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${this.#apiKey}`,
          'content-type': 'application/json',
          // A connection of its own: one that is kept may be closed by the server just when it is used again.
          connection: 'close',
          ...(key !== null && { 'idempotency-key': key }),
          ...(lastEventId !== null && { 'last-event-id': lastEventId }),
        },
        body: JSON.stringify(script.body),
        signal: abort.signal,
      });
      made.status = response.status;
      if (response.status !== 200) await refused(response, made);
      else {
        made.jobId = response.headers.get('x-request-id');
        if (script.streamed) {
          let numEvents = 0;
          if (dropAfter === 0) drop();
          await readStream(response, script, received, () => {
            numEvents += 1;
            if (numEvents === dropAfter && received.end.kind !== 'finished') drop();
            return !dropped;
          });
        } else readWhole(script.route, (await response.json()) as Record<string, never>, received);
      }
    } catch (error) {
      if (received.end.kind === 'cut') received.end = { kind: 'cut', reason: reasonOf(error) };
    } finally {
      clearTimeout(hung);
      if (timer !== null) clearTimeout(timer);
    }
    made.dropped = dropped && received.end.kind !== 'finished';
    return made;
  }
}

async function refused(response: Response, made: Try): Promise<void> {
  const text = await response.text();
  let code = String(response.status);
  try {
    const { error, error_type } = JSON.parse(text) as { error: string | { code?: string }; error_type?: string };
    code = `${response.status} ${typeof error === 'string' ? error_type : error.code}`;
  } catch {
    code = `${response.status} ${text.slice(0, 80)}`;
  }
  made.received.end = { kind: 'failed', code };
  const waitMs = Math.min(MAX_RETRY_MS, 1000 * Number(response.headers.get('retry-after') ?? 0));
  await wait(waitMs);
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? `${message}: ${cause.message}` : message;
}
