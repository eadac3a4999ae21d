/** Failures: one tagged union, its place on the wire, and whether trying again can help. */

/** Everything that can go wrong with a request, a worker or a file, with its numbers. `reason` may be shown to the caller unless said otherwise. */
export type Failure =
  | { code: 'invalid_json'; reason: string }
  | { code: 'invalid_request'; param: string | null; reason: string }
  /** A field that another server knows and this one does not do yet: refused, never ignored. */
  | { code: 'unsupported_field'; param: string; reason: string }
  | { code: 'context_exceeded'; promptTokens: number; maxNewTokens: number; contextTokens: number }
  | { code: 'invalid_key' }
  /** `of`: the account's prepaid credit, or the budget of the account or of the key. */
  | { code: 'budget_exceeded'; of: 'credit' | 'account' | 'key'; requiredPicoUsd: string; availablePicoUsd: string }
  | { code: 'scope_missing'; scope: string }
  /** The key is bound to addresses, and the request came from another. */
  | { code: 'address_forbidden' }
  | { code: 'model_forbidden'; model: string }
  | { code: 'model_not_found'; model: string }
  | { code: 'route_not_found' }
  | { code: 'method_not_allowed' }
  | { code: 'job_not_found' }
  /** On admin routes. */
  | { code: 'not_found'; what: 'account' | 'key' | 'model' | 'webhook' }
  | { code: 'conflict'; reason: string }
  | { code: 'invalid_header'; header: string; reason: string }
  /** The key stands for another request. */
  | { code: 'idempotency_conflict' }
  /** The key's first request is admitted, and its job is not in a queue yet. */
  | { code: 'idempotency_pending'; retryAfterS: number }
  /** There is no answer to replay or to resume. `ran`: there was one, and it was billed. */
  | { code: 'answer_gone'; ran: boolean }
  /** The way to the answer was lost; what is billed is not known here. `reason` goes to logs, not to callers. */
  | { code: 'answer_lost'; reason: string }
  | { code: 'body_too_large'; limitBytes: number }
  | { code: 'unsupported_media_type'; mediaType: string }
  | { code: 'rate_limited'; limit: 'requests' | 'tokens' | 'concurrency'; retryAfterS: number }
  | { code: 'queue_full'; depth: number; retryAfterS: number }
  | { code: 'no_capacity'; waitedMs: number; retryAfterS: number }
  /** The server itself takes no requests now: it is stopping, or its device is gone. */
  | { code: 'unavailable'; reason: string }
  /** Usage or an account was asked of a server that keeps none. */
  | { code: 'ledger_missing' }
  /** One worker after another went away while it answered; `tokens` were accepted before. */
  | { code: 'worker_lost'; tokens: number }
  /** `deaths` workers were lost at the same place of the answer, after `tokens` of it: the request is taken for the cause. */
  | { code: 'poison_prompt'; deaths: number; tokens: number }
  /** A worker tokenized the prompt to more than the ledger had reserved; nothing is billed. */
  | { code: 'reservation_exceeded'; promptTokens: number; reservedTokens: number }
  | { code: 'grant_expired' }
  | { code: 'cancelled'; tokens: number }
  /** The worker's own failure; `reason` goes to logs, not to callers. */
  | { code: 'generation_failed'; reason: string }
  /** The operator has not finished configuring; `reason` goes to logs, not to callers. */
  | { code: 'not_configured'; reason: string }
  /** `reason` goes to logs, not to callers. */
  | { code: 'internal'; reason: string }
  /** A file from outside breaks a rule of its format. `tensor` is null when the whole file does. */
  | { code: 'file_invalid'; file: string; tensor: string | null; rule: string }
  | { code: 'file_missing'; file: string; reason: string }
  /** A model or option that this build cannot run, named. */
  | { code: 'model_unsupported'; file: string; option: string; reason: string }
  /** A GPU refused memory for `what`. */
  | { code: 'out_of_memory'; what: string; bytes: number }
  /** The GPU went away; `reason` is the driver's and goes to logs. */
  | { code: 'device_lost'; reason: string }
  | { code: 'usage'; reason: string };

/** A failure as something to throw: at start for configuration, anywhere for impossible states. Cross sockets as `failure`, never as a class. */
export class NibbleError extends Error {
  readonly failure: Failure;
  constructor(failure: Failure) {
    super(describe(failure));
    this.name = 'NibbleError';
    this.failure = failure;
  }
}

/** The failure inside anything thrown; what is not ours becomes `internal`. */
export function failureOf(error: unknown): Failure {
  if (error instanceof NibbleError) return error.failure;
  return { code: 'internal', reason: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

/** One sentence in full, for logs and for the terminal of the person who runs the program. */
export function describe(failure: Failure): string {
  switch (failure.code) {
    case 'generation_failed':
    case 'not_configured':
    case 'answer_lost':
    case 'internal':
      return failure.reason;
    case 'file_invalid':
      return failure.tensor === null
        ? `${failure.file}: ${failure.rule}`
        : `${failure.file}: tensor "${failure.tensor}": ${failure.rule}`;
    case 'file_missing':
      return `${failure.file}: ${failure.reason}`;
    case 'model_unsupported':
      return `${failure.file}: ${failure.option}: ${failure.reason}`;
    case 'out_of_memory':
      return `the GPU has no room for ${failure.what} (${failure.bytes} bytes)`;
    case 'device_lost':
      return `the GPU was lost: ${failure.reason}`;
    default:
      return toHttp(failure).message;
  }
}

export interface HttpFailure {
  status: 400 | 401 | 402 | 403 | 404 | 405 | 409 | 410 | 413 | 415 | 422 | 429 | 500 | 503;
  /** OpenAI's `error.type`. */
  type: string;
  /** OpenAI's `error.code`. */
  code: string;
  param: string | null;
  /** Safe to show to a caller. */
  message: string;
  retryAfterS: number | null;
}

/** The failure as an HTTP answer with OpenAI's names. Exhaustive: a new code does not compile until it is here. */
export function toHttp(failure: Failure): HttpFailure {
  const answer = (
    status: HttpFailure['status'],
    type: string,
    message: string,
    more: { param?: string | null; code?: string; retryAfterS?: number } = {},
  ): HttpFailure => ({
    status,
    type,
    message,
    code: more.code ?? failure.code,
    param: more.param ?? null,
    retryAfterS: more.retryAfterS ?? null,
  });
  const invalid = 'invalid_request_error';
  switch (failure.code) {
    case 'invalid_json':
      return answer(400, invalid, `The body is not valid JSON: ${failure.reason}`);
    case 'invalid_request':
      return answer(400, invalid, failure.reason, { param: failure.param });
    case 'unsupported_field':
      return answer(400, invalid, `${failure.param} is not supported yet: ${failure.reason}`, { param: failure.param });
    case 'context_exceeded':
      return answer(
        400,
        invalid,
        `This model's context is ${failure.contextTokens} tokens; the prompt has ${failure.promptTokens} and ${failure.maxNewTokens} more were asked for.`,
        { code: 'context_length_exceeded' },
      );
    case 'invalid_key':
      return answer(401, 'authentication_error', 'Incorrect or missing API key.', { code: 'invalid_api_key' });
    case 'budget_exceeded':
      return answer(
        402,
        'insufficient_quota',
        {
          credit: 'The account has not enough budget for this request at its upper bound; lower max_tokens or top up.',
          account:
            "The account's budget has no room for this request at its upper bound; lower max_tokens or wait for its reset.",
          key: "This key's budget has no room for this request at its upper bound; lower max_tokens or wait for its reset.",
        }[failure.of],
        { code: 'insufficient_quota' },
      );
    case 'scope_missing':
      return answer(403, 'permission_error', `This key lacks the scope "${failure.scope}".`);
    case 'address_forbidden':
      return answer(403, 'permission_error', 'This key may not be used from this address.');
    case 'model_forbidden':
      return answer(403, 'permission_error', `This key may not use the model "${failure.model}".`, { param: 'model' });
    case 'model_not_found':
      return answer(404, invalid, `The model "${failure.model}" does not exist.`, { param: 'model' });
    case 'route_not_found':
      return answer(404, invalid, 'There is no such route.');
    case 'method_not_allowed':
      return answer(405, invalid, 'This route does not take that method.');
    case 'job_not_found':
      return answer(404, invalid, 'There is no such job.');
    case 'not_found':
      return answer(404, invalid, `There is no such ${failure.what}.`);
    case 'conflict':
      return answer(409, 'conflict_error', failure.reason);
    case 'invalid_header':
      return answer(400, invalid, `${failure.header}: ${failure.reason}`, { param: failure.header });
    case 'idempotency_conflict':
      return answer(409, 'conflict_error', 'This Idempotency-Key stands for another request; use a new key.', {
        param: 'Idempotency-Key',
      });
    case 'idempotency_pending':
      return answer(
        409,
        'conflict_error',
        'The first request with this Idempotency-Key is still on its way to a queue; send it again in a moment.',
        { param: 'Idempotency-Key', retryAfterS: failure.retryAfterS },
      );
    case 'answer_gone':
      return answer(
        410,
        invalid,
        failure.ran
          ? 'The request of this Idempotency-Key was run and booked, but its answer is not kept any more; use a new key to run it again.'
          : 'There is no answer under this Idempotency-Key to resume; leave Last-Event-ID out to run the request.',
        { param: 'Idempotency-Key' },
      );
    case 'answer_lost':
      return answer(
        500,
        'server_error',
        'The way to the answer was lost. Whether it was billed is not known here: GET /v1/usage?request_id= with the id of this request tells.',
      );
    case 'body_too_large':
      return answer(413, invalid, `The body is larger than ${failure.limitBytes} bytes.`);
    case 'unsupported_media_type':
      return answer(415, invalid, 'Send the body as application/json.');
    case 'rate_limited':
      return answer(429, 'rate_limit_error', `The account's limit on ${failure.limit} is reached.`, {
        code: 'rate_limit_exceeded',
        retryAfterS: failure.retryAfterS,
      });
    case 'queue_full':
      return answer(429, 'rate_limit_error', 'Too many requests are waiting for this model.', {
        retryAfterS: failure.retryAfterS,
      });
    case 'no_capacity':
      return answer(503, 'server_error', 'No worker for this model took the request in time.', {
        retryAfterS: failure.retryAfterS,
      });
    case 'unavailable':
      return answer(503, 'server_error', failure.reason, { retryAfterS: 1 });
    case 'ledger_missing':
      return answer(
        404,
        invalid,
        'This server keeps no accounts and no ledger: it was started without an edge, which is what meters usage.',
      );
    case 'worker_lost':
      return answer(503, 'server_error', 'The worker was lost in the middle of the answer.', { retryAfterS: 1 });
    case 'poison_prompt':
      // Not 5xx: clients would send it again by themselves, to two more workers.
      return answer(
        422,
        invalid,
        `${failure.deaths} workers were lost at the same place of this request's answer; it was given up.`,
      );
    case 'reservation_exceeded':
      return answer(400, invalid, 'The prompt is longer than its reserved upper bound; nothing was billed.');
    case 'grant_expired':
      return answer(503, 'server_error', 'The request reached the queue too late.', { retryAfterS: 1 });
    case 'cancelled':
      return answer(409, 'conflict_error', 'The request was cancelled.');
    case 'generation_failed':
      return answer(500, 'server_error', 'The model failed on this request.');
    case 'not_configured':
      return answer(503, 'server_error', 'The service is not configured.');
    case 'out_of_memory':
    case 'device_lost':
    case 'file_missing':
    case 'file_invalid':
    case 'model_unsupported':
    case 'usage':
    case 'internal':
      return answer(500, 'server_error', failure.code === 'usage' ? failure.reason : 'Internal error.', {
        code: failure.code === 'usage' ? 'usage' : 'internal',
      });
    default:
      return failure satisfies never;
  }
}

/** Whether the same request may succeed when sent again, unchanged. */
export function isRetryable(failure: Failure): boolean {
  const { status } = toHttp(failure);
  return status === 429 || status === 503;
}
