/** AdminClient: an edge's admin API from a terminal, with the root credential or an account's own admin key. */
import process from 'node:process';
import { NibbleError } from '../core/errors.ts';
import type { Flag, Options } from './command-line.ts';
import { usage } from './command-line.ts';

export const ADMIN_FLAGS: Readonly<Record<string, Flag>> = {
  edge: { kind: 'text', value: 'URL', help: 'the edge', env: 'EDGE' },
  'admin-key': {
    kind: 'text',
    value: 'KEY',
    help: "the edge's ADMIN_KEY, or a key of the account with the scope admin",
    env: 'ADMIN_KEY',
  },
  json: { kind: 'switch', help: 'print one JSON document' },
};
export const ACCOUNT_FLAG: Readonly<Record<string, Flag>> = {
  account: { kind: 'text', value: 'ID', help: 'the account', env: 'NIBBLE_ACCOUNT' },
};

/** An answer of the API, by its documented names. */
// biome-ignore lint/suspicious/noExplicitAny: the edge that answers may be newer than this program.
export type Json = any;

export class AdminClient {
  readonly #url: string;
  readonly #key: string;

  constructor(options: Options) {
    const edge = options.required('edge');
    if (!URL.canParse(edge)) throw usage(`--edge is "${edge}"; a URL such as https://your.edge is needed`);
    this.#url = edge.replace(/\/+$/, '');
    this.#key = options.required('admin-key');
  }

  /** The body of the answer; null where it has none. A refusal is thrown with the edge's own sentence. */
  async call(method: string, path: string, body?: unknown): Promise<Json> {
    const response = await this.fetch(method, path, body);
    const text = await response.text();
    return text === '' ? null : JSON.parse(text);
  }

  async fetch(method: string, path: string, body?: unknown): Promise<Response> {
    const response = await fetch(`${this.#url}/admin${path}`, {
      method,
      headers: { authorization: `Bearer ${this.#key}`, 'content-type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    }).catch((error: Error) => {
      const cause = error.cause instanceof Error ? error.cause.message : error.message;
      throw new NibbleError({ code: 'usage', reason: `${this.#url} does not answer: ${cause}` });
    });
    if (response.ok) return response;
    const text = await response.text();
    throw new NibbleError({ code: 'conflict', reason: `the edge answered ${response.status}: ${sentenceOf(text)}` });
  }
}

function sentenceOf(text: string): string {
  try {
    return (JSON.parse(text) as { error: { message: string } }).error.message;
  } catch {
    return text.slice(0, 200);
  }
}

/** The document with --json; otherwise what `write` makes of it. */
export function print(options: Options, document: Json, write: (document: Json) => string): void {
  console.log(options.on('json') ? JSON.stringify(document, null, 2) : write(document));
}

/** Rows of text in columns. */
export function table(head: readonly string[], rows: readonly (readonly (string | number | null)[])[]): string {
  const cells = [head, ...rows.map((row) => row.map((cell) => (cell === null ? '-' : String(cell))))];
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) => row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ');
  return cells.map((row) => line(row).trimEnd()).join('\n');
}

/** Unix seconds as a day and a time, in UTC. */
export function moment(seconds: number | null): string | null {
  return seconds === null ? null : new Date(seconds * 1000).toISOString().replace('.000', '');
}

/** What `--expires`, `--start` and `--end` take: a date, or a span from now ("30d" with sign +1 ahead, −1 back). In Unix seconds. */
export function instant(name: string, text: string, direction: 1 | -1, nowMs = Date.now()): number {
  const span = spanSeconds(text);
  if (span !== null) return Math.floor(nowMs / 1000) + direction * span;
  const ms = Date.parse(text);
  if (Number.isNaN(ms))
    throw usage(`--${name} is "${text}"; a date such as 2027-01-31 or a span such as 12h or 30d is needed`);
  return Math.floor(ms / 1000);
}

/** "90s", "30m", "12h", "30d" in seconds; null for anything else. */
export function spanSeconds(text: string): number | null {
  const match = /^(\d{1,6})([smhd])$/.exec(text);
  return match === null
    ? null
    : Number(match[1]) * { s: 1, m: 60, h: 3600, d: 86_400 }[match[2] as 's' | 'm' | 'h' | 'd'];
}

/** A list divided by commas; undefined where the flag is absent, null for "any". */
export function list(options: Options, name: string): string[] | null | undefined {
  const text = options.text(name);
  if (text === null) return undefined;
  if (text === 'any') return null;
  return text.split(',').map((item) => item.trim());
}

/** Something that a person is told on stderr, so that stdout stays one document. */
export function tell(sentence: string): void {
  process.stderr.write(`${sentence}\n`);
}
