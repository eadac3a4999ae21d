/** PeerProtocol: what a bench and a rival's process say to each other, over Node's own channel. */
import type { ModelShape } from './shape.ts';

/** The only argument of a peer's process, as JSON. */
export interface PeerSetup {
  shape: ModelShape;
  threads: number;
  /** Tokens that prompt and answer have together at most. */
  contextTokens: number;
  /** Where model files are kept from run to run. */
  cacheDirectory: string;
}

/** decode: `steps` tokens after a prompt of `context` of them. prefill: a prompt until its next token is known. gemv: one product of one vector. */
export type PeerTask =
  | { kind: 'decode'; context: number; steps: number }
  | { kind: 'prefill'; tokens: number }
  | { kind: 'gemv' };

export type PeerAnswer =
  /** First, and once. weightBytes: what a decoded token reads of weights. */
  | { kind: 'ready'; version: string; weightBytes: number }
  /** tokens a second; for a gemv, products a second */
  | { kind: 'rate'; perSecond: number }
  | { kind: 'failed'; reason: string };
