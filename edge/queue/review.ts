/**
 * Review: whether the keys that opened workers' sockets are still good. A key is checked when its socket opens; after that here, on a slow
 * tick while there are jobs, more slowly while there are none, and before a socket that was not checked for long gets a lease.
 */
import type { Failure } from '../../core/errors.ts';
import type { Env } from '../env.ts';
import { REVIEW_MS } from './policy.ts';
import type { Connection, Sockets } from './sockets.ts';

export class Review {
  readonly #sockets: Sockets;
  readonly #accounts: Env['ACCOUNT'];
  readonly #refuse: (connection: Connection, failure: Failure) => void;
  /** Ids of the connections that are being asked about. */
  readonly #asked = new Set<string>();

  /** `refuse` is called with a connection whose key is no good any more. */
  constructor(sockets: Sockets, accounts: Env['ACCOUNT'], refuse: (connection: Connection, failure: Failure) => void) {
    this.#sockets = sockets;
    this.#accounts = accounts;
    this.#refuse = refuse;
  }

  /** Asks about every socket that was not checked for a while. Resolves to whether any was found good. */
  async run(nowMs: number): Promise<boolean> {
    const due = this.#sockets
      .workers()
      .filter(({ id, checkedMs }) => nowMs - checkedMs >= REVIEW_MS && !this.#asked.has(id));
    const found = await Promise.all(due.map((connection) => this.#check(connection)));
    return found.includes('good');
  }

  async #check(connection: Connection): Promise<'good' | 'refused' | 'unknown'> {
    const { id, caller, model } = connection;
    if (caller === null) {
      // A socket of an earlier release, which kept no caller: its worker comes back at once.
      this.#refuse(connection, { code: 'invalid_key' });
      return 'refused';
    }
    this.#asked.add(id);
    try {
      const { accountId, ...presented } = caller;
      const answer = await this.#accounts.getByName(accountId).authorize(presented, { scope: 'worker', model });
      if (answer.ok) {
        connection.checkedMs = Date.now();
        return 'good';
      }
      if (this.#sockets.get(id) === connection) this.#refuse(connection, answer.failure);
      return 'refused';
    } catch (error) {
      // Asked again at the next tick; too long without an answer, and it gets no leases.
      console.error({ event: 'account_did_not_answer', accountId: caller.accountId, error: String(error) });
      return 'unknown';
    } finally {
      this.#asked.delete(id);
    }
  }
}
