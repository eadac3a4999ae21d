/** EdgeProtocol: what `nibble bench edge` and the program in bench/edge tell each other. */

export interface EdgeSettings {
  /** `litellm`, `portkey`. */
  rivals: readonly string[];
  rounds: number;
  /** Of one measurement. */
  seconds: number;
  /** That ask one after another, all at once. */
  clients: number;
  /** Of an answer. */
  tokens: number;
  /** Held open together at the end; 0: none. */
  streams: number;
  /** A directory for installed rivals and the objects' storage. */
  cache: string;
}

interface Quantiles {
  p50: number;
  p99: number;
}

export interface EdgeMeasured {
  /** First `direct`, then `nibble`, then the rivals. Latencies are of one client alone, in streams; rates are medians of the rounds. */
  gateways: {
    name: string;
    version: string;
    note: string;
    requestsPerS: number;
    streamsPerS: number;
    firstTokenMs: Quantiles;
    perTokenMs: Quantiles;
    wholeMs: Quantiles;
    /** That the latencies are of. */
    requests: number;
    residentBytes: number;
  }[];
  missing: { name: string; reason: string }[];
  open: { streams: number; openMs: number; bytes: number } | null;
}
