/**
 * Kept frames: what a worker said of its leases over one link and the queue has not acknowledged. While the link is down the engine goes
 * on and its frames are kept; they are sent again from where the queue's memory ends.
 */
import type { Frame, HeldLease, TokenOut } from '../core/protocol.ts';

/**
 * Tokens and alternatives kept of one lease: acknowledgements come every 64 tokens, so this is an outage of many seconds. At some 150
 * bytes each, 32 leases of it take 20 MB.
 */
const MAX_KEPT = 4096;

interface Kept {
  epoch: number;
  /** `held`: nothing is sent until the queue says where to go on. */
  phase: 'flowing' | 'held';
  started: Frame | null;
  /** Place of the first kept token. */
  from: number;
  tokens: TokenOut[];
  numAlternatives: number;
  end: Frame | null;
}

export class KeptFrames {
  readonly #leases = new Map<string, Kept>();

  /** Leases that have not ended. */
  get numRunning(): number {
    return [...this.#leases.values()].filter(({ end }) => end === null).length;
  }

  /** A lease that goes on after so many tokens; an earlier one of the same job is void. */
  begin(jobId: string, epoch: number, numEmitted: number): void {
    const nothing = { started: null, from: numEmitted, tokens: [], numAlternatives: 0, end: null };
    this.#leases.set(jobId, { epoch, phase: 'flowing', ...nothing });
  }

  has(jobId: string, epoch: number): boolean {
    return this.#leases.get(jobId)?.epoch === epoch;
  }

  /** Keeps these frames. Returns those to send now; frames of a lease that is void are dropped. */
  keep(frames: readonly Frame[]): Frame[] {
    return frames.filter((frame) => {
      const lease = this.#of(frame.jobId, frame.epoch);
      if (lease === null) return false;
      if (frame.kind === 'started') lease.started = frame;
      else if (frame.kind === 'tokens') this.#append(lease, frame.tokens);
      else lease.end = frame;
      return lease.phase === 'flowing';
    });
  }

  /** Leases with more than may be kept: their worker must give them up. */
  overfull(): { jobId: string; epoch: number }[] {
    return [...this.#leases]
      .filter(([, { tokens, numAlternatives }]) => tokens.length + numAlternatives > MAX_KEPT)
      .map(([jobId, { epoch }]) => ({ jobId, epoch }));
  }

  /** The first `tokens` tokens are stored. */
  acknowledge(jobId: string, epoch: number, tokens: number): void {
    const lease = this.#of(jobId, epoch);
    if (lease === null || tokens <= lease.from) return;
    const gone = lease.tokens.splice(0, tokens - lease.from);
    lease.from += gone.length;
    lease.numAlternatives -= alternativesOf(gone);
  }

  forget(jobId: string, epoch: number): void {
    if (this.has(jobId, epoch)) this.#leases.delete(jobId);
  }

  /** The link is lost: nothing flows. */
  hold(): void {
    for (const lease of this.#leases.values()) lease.phase = 'held';
  }

  held(): HeldLease[] {
    return [...this.#leases].map(([jobId, { epoch, from }]) => ({ jobId, epoch, from }));
  }

  /** The frames after the answer's first `tokens` tokens, and whether it began; the lease flows again. Null: it is not held here. */
  replay(jobId: string, epoch: number, tokens: number): Frame[] | null {
    const lease = this.#of(jobId, epoch);
    if (lease === null || tokens < lease.from) return null;
    lease.phase = 'flowing';
    const rest = lease.tokens.slice(tokens - lease.from);
    const answer: Frame[] = rest.length === 0 ? [] : [{ jobId, epoch, kind: 'tokens', from: tokens, tokens: rest }];
    return [lease.started, ...answer, lease.end].filter((frame) => frame !== null);
  }

  #of(jobId: string, epoch: number): Kept | null {
    const lease = this.#leases.get(jobId);
    return lease?.epoch === epoch ? lease : null;
  }

  #append(lease: Kept, tokens: readonly TokenOut[]): void {
    lease.tokens.push(...tokens);
    lease.numAlternatives += alternativesOf(tokens);
  }
}

function alternativesOf(tokens: readonly TokenOut[]): number {
  return tokens.reduce((sum, { top }) => sum + top.length, 0);
}
