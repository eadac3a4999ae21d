/** Link: where workers dial in. GET /link?model=M&shard=0, upgraded to a WebSocket that speaks core/protocol.ts. */
import type { Context } from 'hono';
import { Hono } from 'hono';
import { describe, type Failure, failureOf, toHttp } from '../../core/errors.ts';
import { errorBody } from './refusal.ts';
import { clientIpOf } from './request.ts';
import type { Caller, Outcome } from './service.ts';

/** For clients that cannot set a header on a WebSocket: the token as a subprotocol, `nibble.<token>`. */
const SUBPROTOCOL = /^nibble\.([0-9A-Za-z_]+)$/;
/** The same bound as in core/protocol.ts. */
const MAX_MODEL_CHARS = 200;

export interface LinkRequest {
  token: string;
  model: string;
  shard: number;
  clientIp: string | null;
}

export interface LinkService {
  /** Of every model's queue; workers connect to each. */
  readonly shards: number;
  /** Whose token it is, if it may serve this model. */
  authorize(request: LinkRequest): Promise<Outcome<Caller>>;
  /** The upgraded response of the model's queue, which looks at the caller's key again now and then. */
  connect(request: LinkRequest, caller: Caller): Promise<Response>;
}

/** An app of its own: an upgraded response takes no headers from middleware. */
export function linkRoute(resolve: (c: Context) => LinkService): Hono {
  const app = new Hono();
  app.onError((error, c) => refuse(c, failureOf(error)));
  app.get('/link', async (c) => {
    const offered =
      c.req
        .header('sec-websocket-protocol')
        ?.split(',')
        .map((name) => name.trim()) ?? [];
    const subprotocol = offered.find((name) => SUBPROTOCOL.test(name));
    const token =
      /^Bearer +(\S+) *$/i.exec(c.req.header('authorization') ?? '')?.[1] ??
      (subprotocol === undefined ? undefined : SUBPROTOCOL.exec(subprotocol)![1]);
    if (token === undefined) return refuse(c, { code: 'invalid_key' });
    const model = c.req.query('model') ?? '';
    if (model === '' || model.length > MAX_MODEL_CHARS)
      return refuse(c, invalid('model', `model must have 1 to ${MAX_MODEL_CHARS} characters.`));
    const shard = Number(c.req.query('shard') ?? '0');
    const service = resolve(c);
    if (!Number.isInteger(shard) || shard < 0 || shard >= service.shards) return refuse(c, { code: 'route_not_found' });
    const request = { token, model, shard, clientIp: clientIpOf(c) };
    const authorized = await service.authorize(request);
    if (!authorized.ok) return refuse(c, authorized.failure);
    // Last: a worker whose socket was refused asks once more without the upgrade, to learn why.
    if (c.req.header('upgrade')?.toLowerCase() !== 'websocket')
      return refuse(c, invalid(null, 'This route takes WebSocket upgrades only.'));
    const upgraded = await service.connect(request, authorized.value);
    if (subprotocol === undefined) return upgraded;
    const { webSocket } = upgraded;
    return new Response(null, { status: 101, webSocket, headers: { 'sec-websocket-protocol': subprotocol } });
  });
  app.all('/link', (c) => {
    c.header('allow', 'GET');
    return refuse(c, { code: 'method_not_allowed' });
  });
  return app;
}

function invalid(param: string | null, reason: string): Failure {
  return { code: 'invalid_request', param, reason };
}

function refuse(c: Context, failure: Failure): Response {
  if (toHttp(failure).status >= 500) console.error(`${failure.code}: ${describe(failure)}`);
  return c.json(errorBody(failure), toHttp(failure).status);
}
