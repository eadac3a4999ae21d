/** Queue client: a job's events as the edge reads them from its queue object, over one stream or several. */
import { type Failure, NibbleError } from '../../core/errors.ts';
import type { Job } from '../../core/protocol.ts';
import type { JobEvent, Outcome } from '../api/service.ts';
import type { Env } from '../env.ts';
import type { Grant } from '../ledger/grant.ts';
import type { Submit } from './object.ts';
import type { FallbackPolicy } from './policy.ts';
import { LOAD } from './shards.ts';

/**
 * How long to wait before each try to reach an object that was lost: a crashed one is back in milliseconds, one that is moved or updated in
 * seconds. 16 s in all, and no gap near what the object waits for a reader after a restart (REATTACH_MS).
 */
export const RETRY_MS: readonly number[] = [0, 250, 500, 1_000, 2_000, 4_000, 4_000, 4_000];
/** A connection that held so long was a good one: the tries begin anew. */
const STABLE_MS = 5_000;
/** The queue says something every WAITING_MS: a connection that is silent for so long is dead, though it was not closed. */
const SILENT_MS = 15_000;

/** A new stub each time: one whose object crashed stays broken. */
type Queue = () => ReturnType<Env['QUEUE']['getByName']>;
type Bytes = ReadableStreamDefaultReader<Uint8Array>;

export type Submitted =
  | { kind: 'queued'; events: ReadableStream<JobEvent>; load: number | null }
  /** `load`: as the queue said it, for the choice of a shard. `certain`: the queue has never had the job. Otherwise an earlier try may still reach it: the reservation stays until the ledger asks. */
  | { kind: 'refused'; failure: Failure; certain: boolean; load: number | null };

/**
 * Queues a job; its events flow as they are read. Cancelling them, or the signal's abort, leaves the job, which the queue cancels unless its
 * grant says otherwise. A try without an answer is made again under the same id, which is one job however often it arrives.
 * Throws when the queue cannot be reached: its reservation must stay until the ledger has asked the queue.
 */
export async function submit(
  queue: Queue,
  grant: Grant,
  job: Job,
  fallback: FallbackPolicy,
  signal: AbortSignal,
): Promise<Submitted> {
  const body = JSON.stringify({ grant, job, fallback } satisfies Submit);
  // A job that is to run on is not lost with its client on the way to the queue either.
  const sent = grant.keepUntilMs === null ? { signal } : {};
  const { response, tries } = await reach(queue, signal, (stub) =>
    stub.fetch('https://queue/jobs', { method: 'POST', body, ...sent }),
  );
  if (response === null) throw lost(signal, `the queue of job ${grant.jobId} could not be reached in ${tries} tries`);
  const said = response.headers.get(LOAD);
  const load = said === null ? null : Number(said);
  if (!response.ok) return { kind: 'refused', failure: await failureIn(response), certain: tries === 1, load };
  return { kind: 'queued', events: eventStream(queue, grant.jobId, response, signal), load };
}

/** The events of a job that was queued before, from its beginning; `job_not_found` when the queue has none of this id. */
export async function attach(
  queue: Queue,
  jobId: string,
  signal: AbortSignal,
): Promise<Outcome<ReadableStream<JobEvent>>> {
  const { response, tries } = await reach(queue, signal, (stub) => stub.fetch(eventsOf(jobId, 0), { signal }));
  if (response === null) throw lost(signal, `the queue of job ${jobId} could not be reached in ${tries} tries`);
  if (!response.ok) return { ok: false, failure: await failureIn(response) };
  return { ok: true, value: eventStream(queue, jobId, response, signal) };
}

/** The first answer of the queue; null when none came, or the client left. */
async function reach(
  queue: Queue,
  signal: AbortSignal,
  ask: (stub: ReturnType<Queue>) => Promise<Response>,
): Promise<{ response: Response | null; tries: number }> {
  for (const [tried, delayMs] of RETRY_MS.entries()) {
    await pause(delayMs, signal);
    if (signal.aborted) return { response: null, tries: tried };
    try {
      return { response: await ask(queue()), tries: tried + 1 };
    } catch (error) {
      if (!signal.aborted) console.warn({ event: 'queue_did_not_answer', tried: tried + 1, error: String(error) });
    }
  }
  return { response: null, tries: RETRY_MS.length };
}

function eventStream(queue: Queue, jobId: string, first: Response, signal: AbortSignal): ReadableStream<JobEvent> {
  let bytes: Bytes = first.body!.getReader();
  let lines = lineReader(bytes);
  let connectedMs = Date.now();
  /** Since a connection that was good for something. */
  let tries = 0;
  /** The connection broke, and the client was told to wait. */
  let broken = false;
  const seen = { started: false, tokens: 0 };
  const left = new AbortController();
  const leave = async (): Promise<void> => {
    left.abort();
    await bytes.cancel().catch(() => undefined);
  };
  signal.addEventListener('abort', () => void leave());
  if (signal.aborted) void leave();

  /** The next event, or null when this connection broke off, or fell silent, before the end. */
  const read = async (): Promise<JobEvent | null> => {
    let timer: ReturnType<typeof setTimeout> | null = null;
    const silence = new Promise<null>((resolve) => {
      timer = setTimeout(() => resolve(null), SILENT_MS);
    });
    try {
      const line = await Promise.race([lines.next(), silence]);
      if (line === null) console.warn({ event: 'queue_fell_silent', jobId, tokens: seen.tokens });
      return line === null || line.done ? null : (JSON.parse(line.value) as JobEvent);
    } catch {
      return null;
    } finally {
      if (timer !== null) clearTimeout(timer);
    }
  };
  /** Comes back for the tokens that are missing. `gone`: there is no such job any more, or nobody who would read it. */
  const attachAgain = async (): Promise<'attached' | 'broken' | 'gone'> => {
    await pause(RETRY_MS[tries]!, left.signal);
    tries += 1;
    if (left.signal.aborted) return 'gone';
    try {
      const response = await queue().fetch(eventsOf(jobId, seen.tokens), { signal: left.signal });
      // Too many readers is no end: those of lost connections go.
      if (!response.ok) return response.status === 404 ? 'gone' : 'broken';
      const before = bytes;
      bytes = response.body!.getReader();
      lines = lineReader(bytes);
      connectedMs = Date.now();
      // Not earlier: a job whose last reader goes is cancelled.
      void before.cancel().catch(() => undefined);
      return 'attached';
    } catch {
      return 'broken';
    }
  };
  return new ReadableStream<JobEvent>(
    {
      async pull(controller) {
        for (;;) {
          const outcome = broken ? await attachAgain() : 'attached';
          const event = outcome === 'attached' ? await read() : null;
          broken = event === null;
          if (event === null) {
            if (outcome === 'attached' && Date.now() - connectedMs >= STABLE_MS) tries = 0;
            // Without an end event: what was billed is known to the ledger only, and no number is better than a wrong one.
            if (outcome === 'gone' || tries === RETRY_MS.length)
              return controller.error(lost(signal, `the queue of job ${jobId} was lost after ${seen.tokens} tokens`));
            if (RETRY_MS[tries] === 0) continue;
            return controller.enqueue({ type: 'waiting' });
          }
          if (event.type === 'started' && seen.started) continue;
          if (event.type === 'started') seen.started = true;
          if (event.type === 'tokens') {
            seen.tokens = event.from + event.tokens.length;
            tries = 0;
          }
          controller.enqueue(event);
          if (event.type === 'finished' || event.type === 'failed') controller.close();
          return;
        }
      },
      cancel: leave,
    },
    { highWaterMark: 0 },
  );
}

function eventsOf(jobId: string, fromToken: number): string {
  return `https://queue/jobs/${jobId}/events?from=${fromToken}`;
}

async function failureIn(response: Response): Promise<Failure> {
  return ((await response.json()) as { failure: Failure }).failure;
}

function lost(signal: AbortSignal, reason: string): NibbleError {
  return new NibbleError(signal.aborted ? { code: 'cancelled', tokens: 0 } : { code: 'answer_lost', reason });
}

/** Waits, or less when the client leaves. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0) await scheduler.wait(ms, { signal }).catch(() => undefined);
}

/** Lines of an NDJSON body, read on demand; a part of a line at the end is dropped. */
async function* lineReader(bytes: Bytes): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let rest = '';
  for (;;) {
    const { done, value } = await bytes.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const lines = rest.split('\n');
    rest = lines.pop()!;
    yield* lines;
  }
}
