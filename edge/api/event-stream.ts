/** Event stream: a job's events as a server-sent event body, read only as fast as the client reads. */
import type { JobRead, JobReader } from './job-reader.ts';

export const EVENT_STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  // nginx buffers an answer unless told not to.
  'x-accel-buffering': 'no',
};

/** One server-sent event. */
export interface ServerEvent {
  /** How many tokens of the answer a client has that has had this event; text that comes after the last token counts as one more. Null: no text. */
  id: number | null;
  /** Its lines, without the id and the empty line at its end. */
  text: string;
}

/** What a surface makes of an event: any number of server-sent events. Never sees `waiting`. */
export type EncodeEvent = (event: Exclude<JobRead, { type: 'waiting' }>) => ServerEvent[];

/** A comment: keeps proxies from closing an idle stream, and clients skip it. */
const WAITING = ': waiting\n\n';

/**
 * `first` is what `job.first` gave; with null the body opens with a comment, so that the headers leave at once. With `resumeFrom` the answer
 * is encoded from its beginning, since an encoder counts, and what the client has is not sent.
 */
export function eventStream(
  job: JobReader,
  first: JobRead | null,
  encode: EncodeEvent,
  resumeFrom: number | null,
  onInternal: (reason: string) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let taken: JobRead | null = first ?? { type: 'waiting' };
  let left = false;
  let numTokens = 0;
  const written = (event: Exclude<JobRead, { type: 'waiting' }>) =>
    encode(event)
      .filter(({ id }) => id === null || resumeFrom === null || id > resumeFrom)
      .map(({ id, text }) => `${id === null ? '' : `id: ${id}\n`}${text}\n\n`)
      .join('');
  const say = (event: JobRead): { text: string; ended: boolean } => {
    if (event.type === 'waiting') return { text: WAITING, ended: false };
    if (event.type === 'tokens') numTokens = event.from + event.tokens.length;
    const ended = event.type === 'finished' || event.type === 'failed' || event.type === 'cut';
    try {
      return { text: written(beyondEnd(event, numTokens, resumeFrom)), ended };
    } catch (error) {
      onInternal(error instanceof Error ? (error.stack ?? error.message) : String(error));
      void job.cancel('its events could not be encoded');
      return { text: written({ type: 'cut', reason: 'an event could not be encoded' }), ended: true };
    }
  };
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      // A pull that enqueues nothing is not repeated, so it goes on until it has something.
      for (;;) {
        const event = taken ?? (await job.next());
        taken = null;
        if (left) return;
        const { text, ended } = say(event);
        if (text !== '') controller.enqueue(encoder.encode(text));
        if (ended) return controller.close();
        if (text !== '') return;
      }
    },
    cancel(reason) {
      left = true;
      return job.cancel(reason);
    },
  });
}

/** A client that has more than the whole answer, has another answer: it is told so instead of its end. */
function beyondEnd(
  event: Exclude<JobRead, { type: 'waiting' }>,
  numTokens: number,
  resumeFrom: number | null,
): Exclude<JobRead, { type: 'waiting' }> {
  if (event.type !== 'finished' || resumeFrom === null || resumeFrom <= numTokens + 1) return event;
  const reason = `${resumeFrom} is not an id of this answer, which has ${numTokens} tokens`;
  return { type: 'failed', failure: { code: 'invalid_header', header: 'Last-Event-ID', reason }, usage: event.usage };
}
