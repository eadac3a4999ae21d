/** Traffic: the requests of the edge's bench, one client's view of each, and what many of them sum up to. */
import { Agent, request as send } from 'node:http';

export const MODEL = 'instant';
export const TOKEN_TEXT = 'word ';

export interface Target {
  url: string;
  key: string;
  model: string;
  /** Beside the key. */
  headers?: Readonly<Record<string, string>>;
}

/** Milliseconds of one request; of a plain one the first token comes with the last. */
export interface Taken {
  firstTokenMs: number;
  wholeMs: number;
  tokens: number;
}

const agent = new Agent({ keepAlive: true, maxSockets: 10_000 });

/** Sends one chat request and reads its answer. Rejects on another status, on an error event, and when the answer is cut. */
export function ask(target: Target, tokens: number, stream: boolean, onFirst?: () => void): Promise<Taken> {
  const body = JSON.stringify({
    model: target.model,
    messages: [{ role: 'user', content: 'Once upon a time' }],
    max_tokens: tokens,
    stream,
  });
  const headers = {
    authorization: `Bearer ${target.key}`,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    ...target.headers,
  };
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const request = send(`${target.url}/v1/chat/completions`, { method: 'POST', agent, headers }, (response) => {
      let firstTokenMs = Number.NaN;
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
        if (!Number.isNaN(firstTokenMs) || !text.includes(TOKEN_TEXT)) return;
        firstTokenMs = performance.now() - started;
        onFirst?.();
      });
      response.on('error', reject);
      response.on('end', () => {
        const wholeMs = performance.now() - started;
        const counted = text.split(TOKEN_TEXT).length - 1;
        const ended = !stream || text.includes('[DONE]');
        if (response.statusCode === 200 && counted === tokens && ended) resolve({ firstTokenMs, wholeMs, tokens });
        else reject(new Error(`status ${response.statusCode}, ${counted} of ${tokens} tokens: ${text.slice(-300)}`));
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

export interface Volley {
  requestsPerS: number;
  firstTokenMs: number[];
  /** Between the first token and the last, a token. */
  perTokenMs: number[];
  wholeMs: number[];
}

/** `clients` ask one after another for about `ms`. Rejects when any request fails: a gateway that drops some has no rate. */
export async function volley(
  target: Target,
  { clients, ms, tokens, stream }: { clients: number; ms: number; tokens: number; stream: boolean },
): Promise<Volley> {
  const taken: Taken[] = [];
  const started = performance.now();
  const until = started + ms;
  const client = async () => {
    while (performance.now() < until) taken.push(await ask(target, tokens, stream));
  };
  await Promise.all(Array.from({ length: clients }, client));
  const elapsedS = (performance.now() - started) / 1000;
  return {
    requestsPerS: taken.length / elapsedS,
    firstTokenMs: taken.map(({ firstTokenMs }) => firstTokenMs),
    perTokenMs: taken.map((one) => (one.wholeMs - one.firstTokenMs) / Math.max(1, one.tokens - 1)),
    wholeMs: taken.map(({ wholeMs }) => wholeMs),
  };
}

/** The value below which `share` of the values lie. */
export function quantile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new Error('a quantile of no values');
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
}
