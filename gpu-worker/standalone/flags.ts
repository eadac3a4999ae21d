/** Flags: what `nibble serve` takes only without an edge, and what it does not take yet. */
import type { Flag } from '../command-line.ts';

/** TGI's, except for the batch, which TGI sizes by memory alone. */
export const DEFAULT_CONCURRENT_REQUESTS = 128;
export const DEFAULT_HOSTNAME = '0.0.0.0';
export const DEFAULT_PORT = 3000;
export const DEFAULT_BATCH_SIZE = 32;

export const STANDALONE_FLAGS = {
  hostname: {
    kind: 'text',
    value: 'ADDRESS',
    help: `without an edge: where to listen (${DEFAULT_HOSTNAME}) [HOSTNAME, where it is an address]`,
  },
  port: { kind: 'integer', minimum: 0, help: `without an edge: port to listen on (${DEFAULT_PORT})`, env: 'PORT' },
  'api-key': {
    kind: 'text',
    value: 'KEY',
    help: 'without an edge: the key that clients must send (none: no key is asked)',
    env: 'API_KEY',
  },
  'max-batch-size': {
    kind: 'integer',
    minimum: 1,
    help: `without an edge: requests that run at once; others wait (${DEFAULT_BATCH_SIZE})`,
    env: 'MAX_BATCH_SIZE',
  },
} as const satisfies Record<string, Flag>;

/** TGI's launcher has them, and they would change answers or access: refused by name. */
export const PENDING_TGI_FLAGS = [
  'max-waiting-tokens',
  'waiting-served-ratio',
  'max-best-of',
  'max-stop-sequences',
  'max-top-n-tokens',
  'max-client-batch-size',
  'validation-workers',
  'payload-limit',
  'cors-allow-origin',
  'rope-scaling',
  'rope-factor',
  'lora-adapters',
  'trust-remote-code',
  'tokenizer-config-path',
  'cuda-memory-fraction',
  'cuda-graphs',
  'enable-prefill-logprobs',
  'disable-grammar-support',
  'json-output',
  'otlp-endpoint',
  'weights-cache-override',
];
