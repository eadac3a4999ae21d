/** Usage: what rows and buckets a route answers, over whoever can ask the ledger. */
import type { Failure } from '../../core/errors.ts';
import type { BucketQuery, BucketRow, GroupBy, RowQuery, UsageRow } from './accounts.ts';
import { refuse } from './refusal.ts';
import { type ApiContext, schemaFailure } from './request.ts';
import type { Outcome } from './service.ts';
import { bucketBodies, CSV_HEAD, completionsResult, costsResult, csvRow, rowBody, sumBody } from './usage-body.ts';
import { asksBuckets, bucketsOf, filterOf, MAX_ROWS, RangeQuery, RowsQuery } from './usage-query.ts';

export interface UsageSource {
  rows(query: RowQuery): Promise<Outcome<UsageRow[]>>;
  buckets(query: BucketQuery): Promise<Outcome<BucketRow[]>>;
}

const OWN_GROUPS = { key: 'key', model: 'model', user: 'user', api_key_id: 'key', user_id: 'user' } as const;
const OPENAI_GROUPS = {
  project_id: 'nothing',
  user_id: 'user',
  api_key_id: 'key',
  model: 'model',
  batch: 'nothing',
  service_tier: 'nothing',
} as const;
const COST_GROUPS = { project_id: 'nothing', line_item: 'model', api_key_id: 'key' } as const;

/** Rows, newest first, or buckets where a parameter of theirs is sent. */
export async function usageAnswer(c: ApiContext, source: UsageSource): Promise<Response> {
  const url = new URL(c.req.url);
  const ofRows = ['request_id', 'before'].find((name) => url.searchParams.has(name));
  if (asksBuckets(url) && ofRows !== undefined) return refuse(c, invalid(ofRows, 'is for rows, and these are buckets'));
  if (asksBuckets(url)) return bucketAnswer(c, source, OWN_GROUPS, 'list', sumBody);
  const query = RowsQuery.safeParse(c.req.query());
  if (!query.success) return refuse(c, schemaFailure(query.error));
  const { limit, request_id, before } = query.data;
  const range = { fromMs: null, toMs: null };
  const rows = await source.rows({ limit, requestId: request_id ?? null, before: before ?? null, ...range });
  return rows.ok ? c.json({ object: 'list', data: rows.value.map(rowBody) }) : refuse(c, rows.failure);
}

export function completionsAnswer(c: ApiContext, source: UsageSource): Promise<Response> {
  return bucketAnswer(c, source, OPENAI_GROUPS, 'page', completionsResult);
}

export function costsAnswer(c: ApiContext, source: UsageSource): Promise<Response> {
  return bucketAnswer(c, source, COST_GROUPS, 'page', costsResult);
}

async function bucketAnswer(
  c: ApiContext,
  source: UsageSource,
  groups: Record<string, GroupBy | 'nothing'>,
  object: 'list' | 'page',
  result: (row: BucketRow) => object,
): Promise<Response> {
  const asked = bucketsOf(new URL(c.req.url), groups, Date.now());
  if (!asked.ok) return refuse(c, asked.failure);
  const { query, nextPage } = asked.value;
  if (query.accounts !== null) return refuse(c, invalid('account_ids', 'is for the report over all accounts'));
  const rows = await source.buckets(query);
  if (!rows.ok) return refuse(c, rows.failure);
  const data = bucketBodies(query, rows.value, result);
  return c.json({ object, data, has_more: nextPage !== null, next_page: nextPage });
}

function invalid(param: string, rule: string): Failure {
  return { code: 'invalid_request', param, reason: `${param} ${rule}` };
}

/** Every row of a range as CSV, newest first, page by page as it is read. */
export async function csvAnswer(c: ApiContext, source: UsageSource): Promise<Response> {
  const parsed = RangeQuery.safeParse(c.req.query());
  if (!parsed.success) return refuse(c, schemaFailure(parsed.error));
  const filter = filterOf(new URL(c.req.url));
  if (filter !== null) return refuse(c, invalid(filter, 'is for buckets; the CSV has every row of the range'));
  const { start_time, end_time } = parsed.data;
  const range = {
    fromMs: start_time === undefined ? null : start_time * 1000,
    toMs: end_time === undefined ? null : end_time * 1000,
  };
  const page = (before: number | null) => source.rows({ limit: MAX_ROWS, requestId: null, before, ...range });
  const first = await page(null);
  if (!first.ok) return refuse(c, first.failure);
  let rows: UsageRow[] | null = first.value;
  let head = CSV_HEAD;
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (rows === null) return controller.close();
        controller.enqueue(new TextEncoder().encode(head + rows.map(csvRow).join('')));
        head = '';
        const last = rows.at(-1);
        const next = last === undefined || rows.length < MAX_ROWS ? null : await page(last.seq);
        // A file that breaks off is better than one that seems whole.
        if (next !== null && !next.ok) return controller.error(new Error(`the ledger refused: ${next.failure.code}`));
        rows = next === null ? null : next.value;
      },
    },
    { highWaterMark: 0 },
  );
  return c.body(body, 200, {
    'content-type': 'text/csv; charset=utf-8',
    'content-disposition': 'attachment; filename="usage.csv"',
  });
}
