/** Usage: what requests cost, of one account from its ledger or of all from the reporting copy, as a table, JSON or CSV. */

import process from 'node:process';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ACCOUNT_FLAG, ADMIN_FLAGS, AdminClient, instant, type Json, moment, print, table } from '../admin-client.ts';
import type { Command, Options } from '../command-line.ts';
import { usage } from '../command-line.ts';

export const usageCommand: Command = {
  name: 'usage',
  summary: 'what requests cost: rows, or sums in buckets of time',
  positionals: [],
  flags: {
    ...ADMIN_FLAGS,
    ...ACCOUNT_FLAG,
    start: { kind: 'text', value: 'WHEN', help: 'a date, or a span back from now such as 24h (sums: 7d)' },
    end: { kind: 'text', value: 'WHEN', help: 'a date, or a span back from now (now)' },
    bucket: { kind: 'text', choices: ['1m', '1h', '1d'], help: 'sums in buckets of this width (1d)' },
    'group-by': { kind: 'text', value: 'LIST', help: 'key, model, user and, without --account, account' },
    limit: { kind: 'integer', minimum: 1, help: 'rows to show, newest first (20)' },
    csv: { kind: 'switch', help: "print an account's rows as CSV" },
  },
  pending: [],
  examples: [
    'nibble usage --edge https://your.edge --admin-key K --group-by account,model --start 30d',
    'nibble usage --edge https://your.edge --admin-key K --account ID --limit 5',
    'nibble usage --edge https://your.edge --admin-key K --account ID --csv --start 2027-01-01 > january.csv',
  ],
  run,
};

async function run(options: Options): Promise<void> {
  const client = new AdminClient(options);
  const account = options.text('account');
  const path = account === null ? '/usage' : `/accounts/${encodeURIComponent(account)}/usage`;
  const range = new URLSearchParams();
  const [start, end] = [options.text('start'), options.text('end')];
  if (start !== null) range.set('start_time', String(instant('start', start, -1)));
  if (end !== null) range.set('end_time', String(instant('end', end, -1)));
  if (options.on('csv')) {
    if (account === null || options.on('json')) throw usage('--csv needs --account and goes without --json');
    const response = await client.fetch('GET', `${path}.csv?${range}`);
    return pipeline(Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]), process.stdout, {
      end: false,
    });
  }
  const sums = account === null || ['start', 'end', 'bucket', 'group-by'].some((name) => options.has(name));
  if (!sums) {
    const rows = await client.call('GET', `${path}?limit=${options.number('limit') ?? 20}`);
    return print(options, rows, ({ data }) => rowTable(data));
  }
  if (options.has('limit')) throw usage('--limit is for rows; sums are bounded by --start and --end');
  print(options, await allBuckets(client, path, range, options), ({ data }) => sumTable(data));
}

/** Every page of the range as one document. */
async function allBuckets(client: AdminClient, path: string, range: URLSearchParams, options: Options): Promise<Json> {
  if (!range.has('end_time')) range.set('end_time', String(Math.floor(Date.now() / 1000) + 1));
  if (!range.has('start_time')) range.set('start_time', String(Number(range.get('end_time')) - 7 * 86_400));
  range.set('bucket_width', options.text('bucket') ?? '1d');
  const groups = options.text('group-by');
  if (groups !== null) range.set('group_by', groups);
  const data: Json[] = [];
  for (;;) {
    const page = await client.call('GET', `${path}?${range}`);
    data.push(...page.data);
    if (!page.has_more) return { object: 'list', data };
    range.set('page', page.next_page);
  }
}

function rowTable(rows: Json[]): string {
  return table(
    ['request', 'when', 'key', 'model', 'prompt', 'cached', 'completion', 'usd', 'status', 'backend'],
    rows.map((row) => [
      row.request_id,
      moment(row.created),
      row.key_id,
      row.model,
      row.prompt_tokens,
      row.cached_tokens,
      row.completion_tokens,
      row.cost_usd,
      row.status,
      row.backend,
    ]),
  );
}

/** Buckets without a request are left out. */
function sumTable(buckets: Json[]): string {
  const rows = buckets.flatMap((bucket) => bucket.results.map((sum: Json) => ({ from: bucket.start_time, ...sum })));
  const groups = ['account_id', 'key_id', 'model', 'user'].filter((name) =>
    rows.some((row) => (row[name] ?? null) !== null),
  );
  return table(
    ['from', ...groups, 'requests', 'prompt', 'cached', 'completion', 'usd'],
    rows.map((row) => [
      moment(row.from),
      ...groups.map((name) => row[name]),
      row.requests,
      row.prompt_tokens,
      row.cached_tokens,
      row.completion_tokens,
      row.cost_usd,
    ]),
  );
}
