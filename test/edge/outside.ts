/**
 * Outside: a real HTTP server on this machine for what the edge calls: webhook receivers, and a stand-in for Stripe's meter events that keeps
 * Stripe's documented rules: an identifier is known for 24 hours, a timestamp is at most 35 days old, and an event is counted when it is taken.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Received {
  headers: Record<string, string>;
  body: string;
}
/** What happens to a request: an HTTP status, counted but not answered, or lost on its way. */
type Fate = number | 'unanswered' | 'lost';

const DAY_MS = 86_400_000;

export async function startOutside(): Promise<string> {
  const received = new Map<string, Received[]>();
  const fates = new Map<string, Fate[]>();
  const events = new Map<
    string,
    { value: number; name: string; customer: string; timestampS: number; takenMs: number }[]
  >();
  let nowMs: number | null = null;

  const routes: Record<
    string,
    (name: string, request: IncomingMessage, body: string, response: ServerResponse) => void
  > = {
    'POST /hook/': (name, request, body, response) => {
      const log = received.get(name) ?? [];
      log.push({ headers: request.headers as Record<string, string>, body });
      received.set(name, log);
      const fate = fates.get(name)?.shift() ?? 200;
      if (typeof fate === 'number') response.writeHead(fate, { location: '/hook/elsewhere' }).end();
      else response.destroy();
    },
    'GET /log/': (name, _, __, response) => void response.end(JSON.stringify(received.get(name) ?? [])),
    'PUT /fates/': (name, _, body, response) => {
      fates.set(name, JSON.parse(body));
      response.end();
    },
    'PUT /clock/': (_, __, body, response) => {
      nowMs = JSON.parse(body);
      response.end();
    },
    'POST /v1/billing/meter_events': (_, __, body, response) => {
      const form = new URLSearchParams(body);
      const [customer, identifier] = [form.get('payload[stripe_customer_id]')!, form.get('identifier')!];
      const fate = fates.get(customer)?.shift() ?? 200;
      if (fate === 'lost') return void response.destroy();
      if (typeof fate === 'number' && fate !== 200) return error(response, fate, 'scripted');
      const clockMs = nowMs ?? Date.now();
      const timestampS = Number(form.get('timestamp'));
      if (clockMs - timestampS * 1000 > 35 * DAY_MS) return error(response, 400, 'The timestamp is too old.');
      const taken = events.get(identifier) ?? [];
      if (taken.some(({ takenMs }) => clockMs - takenMs < DAY_MS))
        return error(response, 400, `An event already exists with identifier ${identifier}.`);
      const event = {
        value: Number(form.get('payload[value]')),
        name: form.get('event_name')!,
        customer,
        timestampS,
        takenMs: clockMs,
      };
      events.set(identifier, [...taken, event]);
      if (fate === 'unanswered') return void response.destroy();
      json(response, 200, { object: 'billing.meter_event', identifier });
    },
    'GET /v1/billing/meters': (_, request, __, response) => {
      const url = new URL(request.url!, 'http://outside');
      const all = [...events.values()].flat();
      const id = /^\/v1\/billing\/meters\/([^/]+)\/event_summaries$/.exec(url.pathname)?.[1];
      if (id === undefined) {
        const names = [
          'nibble_prompt_tokens',
          'nibble_cached_prompt_tokens',
          'nibble_completion_tokens',
          'nibble_requests',
        ];
        const data = names.map((name) => ({ id: `mtr_${name}`, object: 'billing.meter', event_name: name }));
        return json(response, 200, { object: 'list', data, has_more: false });
      }
      const within = all.filter(
        ({ name, customer, timestampS }) =>
          `mtr_${name}` === id &&
          customer === url.searchParams.get('customer') &&
          timestampS >= Number(url.searchParams.get('start_time')) &&
          timestampS < Number(url.searchParams.get('end_time')),
      );
      const aggregated_value = within.reduce((sum, { value }) => sum + value, 0);
      json(response, 200, { object: 'list', data: [{ id: 'sum', aggregated_value }], has_more: false });
    },
    'GET /counted/': (customer, _, __, response) => {
      const counted: Record<string, number> = {};
      for (const event of [...events.values()].flat())
        if (event.customer === customer) counted[event.name] = (counted[event.name] ?? 0) + event.value;
      json(response, 200, counted);
    },
  };

  const server = createServer(async (request, response) => {
    let body = '';
    for await (const piece of request) body += piece;
    const path = new URL(request.url!, 'http://outside').pathname;
    const known = Object.keys(routes).find((route) => `${request.method} ${path}`.startsWith(route));
    if (known === undefined) return error(response, 404, 'no such route');
    routes[known]!(
      path.slice(known.indexOf('/') === -1 ? 0 : known.length - known.indexOf('/')),
      request,
      body,
      response,
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function error(response: ServerResponse, status: number, message: string): void {
  json(response, status, { error: { type: 'invalid_request_error', message } });
}
