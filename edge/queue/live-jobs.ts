/** Live jobs: what one queue object holds in memory: jobs that live, ended ones that are still being read, and the line of those without a lease. */
import type { LiveJob } from './job.ts';

export class LiveJobs {
  readonly #jobs = new Map<string, LiveJob>();
  /** In the order they came: a job that is queued again is ahead of later ones. */
  #waiting: LiveJob[] = [];

  get size(): number {
    return this.#jobs.size;
  }

  get waiting(): readonly LiveJob[] {
    return this.#waiting;
  }

  get(id: string): LiveJob | undefined {
    return this.#jobs.get(id);
  }

  values(): Iterable<LiveJob> {
    return this.#jobs.values();
  }

  keep(job: LiveJob): void {
    this.#jobs.set(job.id, job);
  }

  /** Drops an ended job once nobody reads it; it stays in storage. */
  forget(job: LiveJob): void {
    for (const reader of job.readers) if (reader.closed) job.readers.delete(reader);
    if (job.readers.size === 0) this.#jobs.delete(job.id);
  }

  /** Puts a job without a lease into the line. */
  enqueue(job: LiveJob): void {
    const last = this.#waiting.at(-1);
    this.#waiting.push(job);
    if (last !== undefined && last.seq > job.seq) this.#waiting.sort((left, right) => left.seq - right.seq);
  }

  /** Takes these jobs out of the line. */
  dequeue(jobs: ReadonlySet<LiveJob>): void {
    if (jobs.size > 0) this.#waiting = this.#waiting.filter((job) => !jobs.has(job));
  }
}
