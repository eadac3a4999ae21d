/** Shares: what each account has of the workers, and when it had its latest turn; forgotten when the account has no job here. */
import type { LiveJob } from './job.ts';
import type { Share } from './policy.ts';

export class Shares {
  #turn = 0;
  #turns = new Map<string, number>();

  /** The account got a lease. */
  took(accountId: string): void {
    this.#turns.set(accountId, ++this.#turn);
  }

  /** Of the accounts of these jobs. */
  of(jobs: Iterable<LiveJob>): Map<string, Share> {
    const shares = new Map<string, Share>();
    for (const { accountId, lease, end } of jobs) {
      if (end !== null) continue;
      const share = shares.get(accountId) ?? { running: 0, turn: this.#turns.get(accountId) ?? -1 };
      if (lease !== null) share.running += 1;
      shares.set(accountId, share);
    }
    if (this.#turns.size > 2 * shares.size + 16)
      this.#turns = new Map([...this.#turns].filter(([accountId]) => shares.has(accountId)));
    return shares;
  }
}
