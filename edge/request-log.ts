/** Request log: one line a request, with nothing of what was said: no body, no query, no header. The id leads to the ledger's row. */

/** A stream is logged when it begins; its end is its ledger row. */
export function logRequest(request: Request, response: Response, ms: number): void {
  // A flood of forged keys must not become a flood of lines.
  if (response.status === 401) return;
  const { pathname } = new URL(request.url);
  if (pathname === '/health') return;
  const id = response.headers.get('x-request-id');
  const backend = response.headers.get('x-nibble-backend');
  console.log({ event: 'request', id, method: request.method, path: pathname, status: response.status, ms, backend });
}
