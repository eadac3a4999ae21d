/** Greeting: whether a worker that says hello may come in. Pure: what it says against what its socket is for. */
import type { Failure } from '../../core/errors.ts';
import type { WorkerMessage } from '../../core/protocol.ts';
import { PROTOCOL_VERSION } from '../../core/protocol.ts';
import type { SeatKind } from './policy.ts';

export type Hello = Extract<WorkerMessage, { type: 'hello' }>;

/** `quarantine`: why this worker was sent away before, or null. */
export function refusalOfHello(
  hello: Hello,
  socket: { kind: SeatKind; model: string },
  quarantine: string | null,
): Failure | null {
  const invalid = (param: string, reason: string): Failure => ({ code: 'invalid_request', param, reason });
  const { protocol, backend, model } = hello;
  if ((backend === 'edge-wasm') !== (socket.kind === 'fallback'))
    return invalid('backend', `"edge-wasm" is the name of the edge's own fallback.`);
  if (protocol !== PROTOCOL_VERSION)
    return invalid('protocol', `The edge speaks protocol ${PROTOCOL_VERSION}, the worker ${protocol}.`);
  if (model.id !== socket.model)
    return invalid('model', `The socket is for "${socket.model}", the worker serves "${model.id}".`);
  return quarantine === null ? null : { code: 'conflict', reason: 'This worker is quarantined.' };
}
