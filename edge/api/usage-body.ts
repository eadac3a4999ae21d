/** Usage body: rows and buckets as JSON in Nibble's and in OpenAI's shapes, and rows as CSV. */
import { z } from '@hono/zod-openapi';
import type { BucketQuery, BucketRow, UsageRow } from './accounts.ts';
import { decimalUsd, numberUsd } from './usd.ts';

export const Row = z
  .object({
    seq: z.int().openapi({ description: "The row's place in the account's ledger." }),
    request_id: z.string(),
    created: z.int(),
    key_id: z.string(),
    user: z.string().nullable(),
    model: z.string(),
    prompt_tokens: z.int(),
    cached_tokens: z.int(),
    completion_tokens: z.int(),
    cost_usd: z.number(),
    cost_pico_usd: z.string().openapi({ description: '10⁻¹² USD: the amount that is billed.' }),
    status: z.enum(['completed', 'cancelled', 'failed']),
    backend: z.string().nullable(),
  })
  .openapi('UsageRow');
const Sum = z
  .object({
    key_id: z.string().nullable(),
    model: z.string().nullable(),
    user: z.string().nullable(),
    requests: z.int(),
    prompt_tokens: z.int(),
    cached_tokens: z.int(),
    completion_tokens: z.int(),
    cost_usd: z.number(),
    cost_pico_usd: z.string(),
  })
  .openapi('UsageSum', { description: 'A field that is not grouped by is null.' });
const bucketOf = (results: z.ZodType) =>
  z.object({ object: z.literal('bucket'), start_time: z.int(), end_time: z.int(), results: z.array(results) });
const page = { has_more: z.boolean(), next_page: z.string().nullable() };

export const Rows = z.object({ object: z.literal('list'), data: z.array(Row) }).openapi('UsageRows');
export const Buckets = z
  .object({ object: z.literal('list'), data: z.array(bucketOf(Sum)), ...page })
  .openapi('UsageBuckets');
export const OpenAiPage = z
  .object({ object: z.literal('page'), data: z.array(bucketOf(z.looseObject({ object: z.string() }))), ...page })
  .openapi('OrganizationPage');

export function rowBody({ usage, ...row }: UsageRow): z.infer<typeof Row> {
  return {
    seq: row.seq,
    request_id: row.requestId,
    created: row.createdS,
    key_id: row.keyId,
    user: row.user,
    model: row.model,
    prompt_tokens: usage.promptTokens,
    cached_tokens: usage.cachedTokens,
    completion_tokens: usage.completionTokens,
    cost_usd: numberUsd(usage.costPicoUsd),
    cost_pico_usd: String(usage.costPicoUsd),
    status: row.status,
    backend: row.backend,
  };
}

export function sumBody(row: BucketRow): z.infer<typeof Sum> {
  return {
    key_id: row.keyId,
    model: row.model,
    user: row.user,
    requests: row.numRequests,
    prompt_tokens: row.promptTokens,
    cached_tokens: row.cachedTokens,
    completion_tokens: row.completionTokens,
    cost_usd: numberUsd(row.costPico),
    cost_pico_usd: row.costPico.toString(),
  };
}

/** OpenAI's usage of completions. There are no projects, batches or tiers, so these are null as where they are not grouped by. */
export function completionsResult(row: BucketRow) {
  return {
    object: 'organization.usage.completions.result',
    input_tokens: row.promptTokens,
    output_tokens: row.completionTokens,
    input_cached_tokens: row.cachedTokens,
    input_audio_tokens: 0,
    output_audio_tokens: 0,
    num_model_requests: row.numRequests,
    project_id: null,
    user_id: row.user,
    api_key_id: row.keyId,
    model: row.model,
    batch: null,
    service_tier: null,
  };
}

/** OpenAI's costs; a line item is a model. */
export function costsResult(row: BucketRow) {
  return {
    object: 'organization.costs.result',
    amount: { value: numberUsd(row.costPico), currency: 'usd' },
    line_item: row.model,
    project_id: null,
    api_key_id: row.keyId,
  };
}

/** Every bucket of the range in order, those without a request too. */
export function bucketBodies<Sum extends BucketRow>(
  query: Pick<BucketQuery, 'originMs' | 'fromMs' | 'toMs' | 'widthMs'>,
  rows: readonly Sum[],
  result: (row: Sum) => object,
) {
  const byBucket = Map.groupBy(rows, ({ bucket }) => bucket);
  const bodies = [];
  for (let at = 0; query.originMs + at * query.widthMs < query.toMs; at++) {
    const startMs = Math.max(query.fromMs, query.originMs + at * query.widthMs);
    const endMs = Math.min(query.toMs, query.originMs + (at + 1) * query.widthMs);
    bodies.push({
      object: 'bucket' as const,
      start_time: Math.floor(startMs / 1000),
      end_time: Math.ceil(endMs / 1000),
      results: (byBucket.get(at) ?? []).map(result),
    });
  }
  return bodies;
}

const CSV_COLUMNS = [
  'request_id',
  'created',
  'key_id',
  'user',
  'model',
  'prompt_tokens',
  'cached_tokens',
  'completion_tokens',
  'cost_usd',
  'status',
  'backend',
] as const;
export const CSV_HEAD = `${CSV_COLUMNS.join(',')}\r\n`;

export function csvRow(row: UsageRow): string {
  const body = {
    ...rowBody(row),
    created: new Date(row.createdS * 1000).toISOString(),
    cost_usd: decimalUsd(row.usage.costPicoUsd),
  };
  return `${CSV_COLUMNS.map((column) => cell(body[column])).join(',')}\r\n`;
}

/** Quoted where it must be; text that a spreadsheet would run as a formula is led by an apostrophe, since users choose their own names. */
function cell(value: string | number | null): string {
  if (value === null) return '';
  if (typeof value === 'number') return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
