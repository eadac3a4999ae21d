/** Usage query: the parameters of the usage routes, read and bounded: rows, or buckets of a minute, an hour or a day. Pure. */
import { z } from '@hono/zod-openapi';
import type { BucketQuery } from './accounts.ts';
import { schemaFailure } from './request.ts';
import type { Outcome } from './service.ts';

/** One answer of the account's object; a thousand rows are about 300 kB. */
export const MAX_ROWS = 1000;
const DEFAULT_ROWS = 100;
/** Job ids are names of at most 200 characters. */
const MAX_ID_CHARS = 200;
const MAX_FILTERS = 100;
/** The year 9999. */
const MAX_TIME_S = 253_402_300_799;

/** OpenAI's widths, with its default and greatest numbers of buckets a page. */
const WIDTHS = {
  '1m': { ms: 60_000, usual: 60, most: 1440 },
  '1h': { ms: 3_600_000, usual: 24, most: 168 },
  '1d': { ms: 86_400_000, usual: 7, most: 180 },
} as const;

const time = z.coerce
  .number()
  .pipe(z.int().min(0).max(MAX_TIME_S))
  .openapi({ type: 'integer', description: 'Unix seconds' });
const count = z.coerce.number().pipe(z.int().min(1));
const filter = z.array(z.string().min(1).max(MAX_ID_CHARS)).max(MAX_FILTERS).optional();

export const RowsQuery = z.object({
  limit: count.pipe(z.int().max(MAX_ROWS)).default(DEFAULT_ROWS).openapi({ type: 'integer' }),
  request_id: z.string().min(1).max(MAX_ID_CHARS).optional(),
  before: count.optional().openapi({ type: 'integer', description: 'Rows older than the one with this `seq`.' }),
});
export const RangeQuery = z.object({ start_time: time.optional(), end_time: time.optional() });
export const BucketsQuery = z.object({
  start_time: time.optional(),
  end_time: time.optional(),
  bucket_width: z.enum(['1m', '1h', '1d']).default('1d'),
  group_by: z.array(z.string()).default([]),
  limit: count.optional().openapi({ type: 'integer', description: 'Buckets a page.' }),
  page: z.string().max(30).optional(),
  models: filter,
  api_key_ids: filter,
  user_ids: filter,
  account_ids: filter,
});
const LISTS = new Set(['group_by', 'models', 'api_key_ids', 'user_ids', 'account_ids']);
const OF_BUCKETS = new Set(['start_time', 'end_time', 'bucket_width', 'page', ...LISTS]);

export interface AskedBuckets<Group> {
  query: Omit<BucketQuery, 'groupBy'> & { groupBy: Group[]; accounts: readonly string[] | null };
  /** Where the next page begins; null: the last one. */
  nextPage: string | null;
}

/** Whether these parameters ask for buckets and not for rows. */
export function asksBuckets(url: URL): boolean {
  return Object.keys(parametersOf(url)).some((name) => OF_BUCKETS.has(name));
}

/** A parameter that only buckets know, of those that would make another answer than the one that is asked for; null: none. */
export function filterOf(url: URL): string | null {
  return Object.keys(parametersOf(url)).find((name) => LISTS.has(name)) ?? null;
}

/** The parameters by name; a list may be repeated, bracketed as OpenAI's client does, or divided by commas. */
export function parametersOf(url: URL): Record<string, string | string[]> {
  const found: Record<string, string | string[]> = {};
  for (const [sent, value] of url.searchParams) {
    const name = sent.endsWith('[]') ? sent.slice(0, -2) : sent;
    if (LISTS.has(name)) found[name] = [...((found[name] as string[] | undefined) ?? []), ...value.split(',')];
    else found[name] = value;
  }
  return found;
}

/** `groups` says what each word of group_by means; "nothing" is accepted and groups nothing here. */
export function bucketsOf<Group extends string>(
  url: URL,
  groups: Record<string, Group | 'nothing'>,
  nowMs: number,
): Outcome<AskedBuckets<Group>> {
  const parsed = BucketsQuery.safeParse(parametersOf(url));
  if (!parsed.success) return { ok: false, failure: schemaFailure(parsed.error as z.ZodError) };
  const { bucket_width, group_by, limit, page, ...asked } = parsed.data;
  const unknown = group_by.find((word) => !Object.hasOwn(groups, word));
  if (unknown !== undefined)
    return invalid('group_by', `group_by: "${unknown}" is none of ${Object.keys(groups).join(', ')}`);
  const width = WIDTHS[bucket_width];
  const numBuckets = limit ?? width.usual;
  if (numBuckets > width.most)
    return invalid('limit', `limit: at most ${width.most} buckets of ${bucket_width} a page`);
  const endMs = asked.end_time === undefined ? nowMs + 1 : asked.end_time * 1000;
  const pageMs = page === undefined ? null : pageStartMs(page);
  if (page !== undefined && pageMs === null) return invalid('page', 'page: not one that was given out');
  // Without a start: the buckets up to the end, which belongs to the last one.
  const lastMs = endMs - 1 - ((endMs - 1) % width.ms);
  const usualMs = Math.max(0, lastMs - (numBuckets - 1) * width.ms);
  const fromMs = pageMs ?? (asked.start_time === undefined ? usualMs : asked.start_time * 1000);
  if (fromMs >= endMs) return invalid('start_time', 'start_time must be before end_time');
  const originMs = Math.max(0, fromMs - (fromMs % width.ms));
  const pageEndMs = originMs + numBuckets * width.ms;
  return {
    ok: true,
    value: {
      query: {
        originMs,
        fromMs: Math.max(0, fromMs),
        toMs: Math.min(endMs, pageEndMs),
        widthMs: width.ms,
        groupBy: group_by.map((word) => groups[word]!).filter((group): group is Group => group !== 'nothing'),
        accounts: asked.account_ids ?? null,
        keyIds: asked.api_key_ids ?? null,
        models: asked.models ?? null,
        users: asked.user_ids ?? null,
      },
      nextPage: pageEndMs < endMs ? `page_${pageEndMs}` : null,
    },
  };
}

function pageStartMs(page: string): number | null {
  const match = /^page_(\d{1,15})$/.exec(page);
  return match === null ? null : Number(match[1]);
}

function invalid(param: string, reason: string) {
  return { ok: false, failure: { code: 'invalid_request', param, reason } } as const;
}
