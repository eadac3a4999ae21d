/** Event stream: a job's events as a server-sent event body, read only as fast as the client reads. */
import type { JobRead, JobReader } from './job-reader.ts';

export const EVENT_STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  // nginx buffers an answer unless told not to.
  'x-accel-buffering': 'no',
};

/** What a surface makes of an event: whole server-sent events, or '' for nothing to say. Never sees `waiting`. */
export type EncodeEvent = (event: Exclude<JobRead, { type: 'waiting' }>) => string;

/** A comment: keeps proxies from closing an idle stream, and clients skip it. */
const WAITING = ': waiting\n\n';

/** `first` is what `job.first` gave; with null the body opens with a comment, so that the headers leave at once. */
export function eventStream(
  job: JobReader,
  first: JobRead | null,
  encode: EncodeEvent,
  onInternal: (reason: string) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let taken: JobRead | null = first ?? { type: 'waiting' };
  let left = false;
  const say = (event: JobRead): { text: string; ended: boolean } => {
    if (event.type === 'waiting') return { text: WAITING, ended: false };
    const ended = event.type === 'finished' || event.type === 'failed' || event.type === 'cut';
    try {
      return { text: encode(event), ended };
    } catch (error) {
      onInternal(error instanceof Error ? (error.stack ?? error.message) : String(error));
      void job.cancel('its events could not be encoded');
      return { text: encode({ type: 'cut', reason: 'an event could not be encoded' }), ended: true };
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
