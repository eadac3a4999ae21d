/** Queue client: a job's events as the edge reads them from its queue object, over one stream or several. */
import { type Failure, NibbleError } from '../../core/errors.ts';
import type { Job } from '../../core/protocol.ts';
import type { JobEvent, Outcome } from '../api/service.ts';
import type { Env } from '../env.ts';
import type { Grant } from '../ledger/grant.ts';
import type { Submit } from './object.ts';
import type { FallbackPolicy } from './policy.ts';

/** How often a reader that lost the queue object comes back before it gives up. */
const MAX_ATTACHMENTS = 3;
/** Before the second and third time; a crashed object is back in milliseconds. */
const RETRY_MS = 250;

/** A new stub each time: one whose object crashed stays broken. */
type Queue = () => ReturnType<Env['QUEUE']['getByName']>;
type Bytes = ReadableStreamDefaultReader<Uint8Array>;

/**
 * Queues a job; its events flow as they are read. Cancelling them, or the signal's abort, cancels the job.
 * Throws when it is not known whether the queue has the job: its reservation must stay until the ledger has asked the queue.
 */
export async function submit(
  queue: Queue,
  grant: Grant,
  job: Job,
  fallback: FallbackPolicy,
  signal: AbortSignal,
): Promise<Outcome<ReadableStream<JobEvent>>> {
  const body = JSON.stringify({ grant, job, fallback } satisfies Submit);
  const response = await queue()
    .fetch('https://queue/jobs', { method: 'POST', body, signal })
    .catch((error: unknown) => {
      const reason = `the queue did not answer for job ${grant.jobId}: ${error}`;
      throw new NibbleError(signal.aborted ? { code: 'cancelled', tokens: 0 } : { code: 'internal', reason });
    });
  if (!response.ok) return { ok: false, failure: ((await response.json()) as { failure: Failure }).failure };
  return { ok: true, value: eventStream(queue, grant.jobId, response.body!.getReader(), signal) };
}

function eventStream(queue: Queue, jobId: string, first: Bytes, signal: AbortSignal): ReadableStream<JobEvent> {
  let bytes = first;
  let lines = lineReader(bytes);
  let attachments = 0;
  const seen = { started: false, tokens: 0 };
  const cancel = async (): Promise<void> => {
    await bytes.cancel().catch(() => undefined);
  };
  signal.addEventListener('abort', () => void cancel());

  /** The next event, or null when this connection broke off before the end. */
  const read = async (): Promise<JobEvent | null> => {
    try {
      const line = await lines.next();
      return line.done ? null : (JSON.parse(line.value) as JobEvent);
    } catch {
      return null;
    }
  };
  const attach = async (): Promise<boolean> => {
    attachments += 1;
    if (signal.aborted || attachments > MAX_ATTACHMENTS) return false;
    if (attachments > 1) await scheduler.wait(RETRY_MS);
    try {
      const response = await queue().fetch(`https://queue/jobs/${jobId}/events?from=${seen.tokens}`, { signal });
      if (!response.ok) return false;
      bytes = response.body!.getReader();
      lines = lineReader(bytes);
      return true;
    } catch {
      return true;
    }
  };
  return new ReadableStream<JobEvent>(
    {
      async pull(controller) {
        for (;;) {
          const event = await read();
          if (event === null) {
            if (await attach()) continue;
            // Without an end event: what was billed is known to the ledger only, and no number is better than a wrong one.
            return controller.error(new Error(`the queue of job ${jobId} was lost after ${seen.tokens} tokens`));
          }
          if (event.type === 'started' && seen.started) continue;
          if (event.type === 'started') seen.started = true;
          if (event.type === 'tokens') seen.tokens = event.from + event.tokens.length;
          controller.enqueue(event);
          if (event.type === 'finished' || event.type === 'failed') controller.close();
          return;
        }
      },
      cancel,
    },
    { highWaterMark: 0 },
  );
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
