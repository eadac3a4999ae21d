import { expect, describe as group, test } from 'vitest';
import { describe, type Failure, failureOf, isRetryable, NibbleError, toHttp } from '../../core/errors.ts';

const SECRET = 'at /srv/secret.ts:12';
/** One of every code. */
const FAILURES: { [Code in Failure['code']]: Extract<Failure, { code: Code }> } = {
  invalid_json: { code: 'invalid_json', reason: 'unexpected end' },
  invalid_request: { code: 'invalid_request', param: 'stop', reason: 'stop is too long' },
  unsupported_field: { code: 'unsupported_field', param: 'n', reason: 'ask once for each' },
  context_exceeded: { code: 'context_exceeded', promptTokens: 600, maxNewTokens: 10, contextTokens: 512 },
  invalid_key: { code: 'invalid_key' },
  budget_exceeded: { code: 'budget_exceeded', of: 'key', requiredPicoUsd: '5', availablePicoUsd: '3' },
  scope_missing: { code: 'scope_missing', scope: 'client' },
  address_forbidden: { code: 'address_forbidden' },
  model_forbidden: { code: 'model_forbidden', model: 'm' },
  model_not_found: { code: 'model_not_found', model: 'm' },
  route_not_found: { code: 'route_not_found' },
  method_not_allowed: { code: 'method_not_allowed' },
  job_not_found: { code: 'job_not_found' },
  not_found: { code: 'not_found', what: 'key' },
  conflict: { code: 'conflict', reason: 'already there' },
  invalid_header: { code: 'invalid_header', header: 'Last-Event-ID', reason: 'must be a number' },
  idempotency_conflict: { code: 'idempotency_conflict' },
  idempotency_pending: { code: 'idempotency_pending', retryAfterS: 2 },
  answer_gone: { code: 'answer_gone', ran: true },
  answer_lost: { code: 'answer_lost', reason: SECRET },
  body_too_large: { code: 'body_too_large', limitBytes: 10 },
  unsupported_media_type: { code: 'unsupported_media_type', mediaType: 'text/html' },
  rate_limited: { code: 'rate_limited', limit: 'requests', retryAfterS: 7 },
  queue_full: { code: 'queue_full', depth: 9, retryAfterS: 2 },
  no_capacity: { code: 'no_capacity', waitedMs: 60_000, retryAfterS: 5 },
  unavailable: { code: 'unavailable', reason: 'stopping' },
  ledger_missing: { code: 'ledger_missing' },
  worker_lost: { code: 'worker_lost', tokens: 3 },
  poison_prompt: { code: 'poison_prompt', deaths: 2, tokens: 3 },
  reservation_exceeded: { code: 'reservation_exceeded', promptTokens: 9, reservedTokens: 8 },
  grant_expired: { code: 'grant_expired' },
  cancelled: { code: 'cancelled', tokens: 3 },
  generation_failed: { code: 'generation_failed', reason: SECRET },
  not_configured: { code: 'not_configured', reason: SECRET },
  internal: { code: 'internal', reason: SECRET },
  file_invalid: { code: 'file_invalid', file: SECRET, tensor: 'w', rule: 'overlaps' },
  file_missing: { code: 'file_missing', file: SECRET, reason: 'is missing' },
  model_unsupported: { code: 'model_unsupported', file: SECRET, option: 'x', reason: 'no' },
  out_of_memory: { code: 'out_of_memory', what: 'the key/value pages', bytes: 1e9 },
  device_lost: { code: 'device_lost', reason: SECRET },
  usage: { code: 'usage', reason: '--x is missing' },
};

group('every failure', () => {
  test.each(Object.values(FAILURES))('$code has a status, a sentence, and keeps its inner reason inside', (failure) => {
    const { status, message, code } = toHttp(failure);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(message.length).toBeGreaterThan(5);
    expect(message).not.toContain(SECRET);
    expect(code).not.toBe('');
    expect(describe(failure).length).toBeGreaterThan(5);
  });

  test('may be tried again only where waiting helps', () => {
    const retryable = Object.values(FAILURES).filter(isRetryable);
    expect(retryable.map(({ code }) => code).sort()).toEqual(
      [
        'grant_expired',
        'no_capacity',
        'not_configured',
        'queue_full',
        'rate_limited',
        'unavailable',
        'worker_lost',
      ].sort(),
    );
  });

  test('that was thrown is found again, and anything else is internal', () => {
    expect(failureOf(new NibbleError(FAILURES.queue_full))).toEqual(FAILURES.queue_full);
    expect(failureOf(new TypeError('boom'))).toMatchObject({
      code: 'internal',
      reason: expect.stringContaining('boom'),
    });
    expect(failureOf('boom')).toEqual({ code: 'internal', reason: 'boom' });
  });

  test('of a file says file, tensor and rule to the person at the terminal', () => {
    expect(describe(FAILURES.file_invalid)).toBe(`${SECRET}: tensor "w": overlaps`);
  });
});
