/**
 * Credits: how many leases each queue of the model may give this worker at once. Their sum never exceeds its slots, whatever is on its way:
 * a queue is told of less first, and only when it has answered, after which it gives no lease beyond that, another is told of more.
 */

/** What a queue may give. */
interface Line {
  linked: boolean;
  /** The most that the queue may believe to have. */
  limit: number;
  /** A lower number that it was told; it holds when all that it was told is answered. */
  asked: number | null;
  numUnanswered: number;
  /** Where `limit` is to go. */
  target: number;
  /** Leases of it that run here. */
  running: number;
  /** Jobs that wait there for room. */
  waiting: number;
}

/** Tell the queue of this shard. */
export interface Told {
  shard: number;
  credits: number;
}

export class Credits {
  readonly #slots: number;
  readonly #lines: Line[] = [];

  constructor(slots: number) {
    this.#slots = slots;
  }

  /** What to say in the hello of a link: what runs there, and what no other queue may still give. */
  hello(shard: number): number {
    const line = this.#line(shard);
    line.limit = 0;
    line.limit = line.running + Math.max(0, this.#room());
    line.asked = null;
    line.numUnanswered = 0;
    line.target = line.limit;
    return line.limit;
  }

  /** The queue welcomed this worker. */
  linked(shard: number): Told[] {
    this.#line(shard).linked = true;
    return this.#plan();
  }

  /** The link is lost: the queue gives nothing, and what it gave still runs. */
  lost(shard: number): Told[] {
    Object.assign(this.#line(shard), { linked: false, limit: 0, asked: null, numUnanswered: 0, waiting: 0 });
    return this.#plan();
  }

  /** The queue says how many jobs wait. */
  demanded(shard: number, waiting: number): Told[] {
    this.#line(shard).waiting = waiting;
    return this.#plan();
  }

  /** The queue answered what it was told first of what it has not answered; answers come in that order. */
  answered(shard: number): Told[] {
    const line = this.#line(shard);
    line.numUnanswered -= 1;
    if (line.asked !== null && line.numUnanswered === 0) {
      line.limit = line.asked;
      line.asked = null;
    }
    return this.#advance();
  }

  /** So many leases of this queue run here now. */
  running(shard: number, running: number): Told[] {
    const line = this.#line(shard);
    const fewer = running < line.running;
    line.running = running;
    return fewer ? this.#advance() : [];
  }

  #line(shard: number): Line {
    while (this.#lines.length <= shard)
      this.#lines.push({ linked: false, limit: 0, asked: null, numUnanswered: 0, target: 0, running: 0, waiting: 0 });
    return this.#lines[shard]!;
  }

  /** Slots that no queue may fill. */
  #room(): number {
    return this.#lines.reduce((room, { limit, running }) => room - Math.max(limit, running), this.#slots);
  }

  /** New targets: a credit for each job that runs or waits, a queue at a time, as far as slots go; what is left, the same for each. */
  #plan(): Told[] {
    const linked = this.#lines.filter((line) => line.linked);
    let spare = this.#slots;
    for (const line of this.#lines) {
      line.target = 0;
      if (!line.linked) spare -= line.running;
    }
    for (const wants of [(line: Line) => line.target < line.running + line.waiting, () => true])
      while (spare > 0) {
        const least = linked.filter(wants).reduce<Line | null>(leastOf, null);
        if (least === null) break;
        least.target += 1;
        spare -= 1;
      }
    return this.#advance();
  }

  #advance(): Told[] {
    const told: Told[] = [];
    for (const [shard, line] of this.#lines.entries())
      if (line.linked && line.asked === null && line.target < line.limit) {
        line.asked = line.target;
        line.numUnanswered += 1;
        told.push({ shard, credits: line.target });
      }
    for (const [shard, line] of this.#lines.entries()) {
      if (!line.linked || line.asked !== null || line.target <= line.limit) continue;
      const used = Math.max(line.limit, line.running);
      const limit = Math.min(line.target, used + Math.max(0, this.#room()));
      if (limit <= line.limit) continue;
      line.limit = limit;
      line.numUnanswered += 1;
      told.push({ shard, credits: limit });
    }
    return told;
  }
}

function leastOf(least: Line | null, line: Line): Line {
  return least === null || line.target < least.target ? line : least;
}
