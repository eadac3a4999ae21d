/** Refusal: a failure as OpenAI's error answer. */
import { describe, type Failure, toHttp } from '../../core/errors.ts';
import type { ApiContext } from './request.ts';

export function errorBody(failure: Failure) {
  const { message, type, param, code } = toHttp(failure);
  return { error: { message, type, param, code } };
}

/** The answer for a failure; an internal reason goes to the log under the request's id, never to the caller. */
export function refuse(c: ApiContext, failure: Failure): Response {
  logInternal(c.var.requestId, failure);
  const { status, retryAfterS } = toHttp(failure);
  if (retryAfterS !== null) c.header('retry-after', String(Math.ceil(retryAfterS)));
  return c.json(errorBody(failure), status);
}

/** Logs what the caller is not told, and only that. */
export function logInternal(requestId: string, failure: Failure): void {
  const reason = describe(failure);
  if (reason !== toHttp(failure).message) console.error(`${requestId} ${failure.code}: ${reason}`);
}
