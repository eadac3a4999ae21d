/** Admin books: the routes that a reconciliation reads, page by page, for the operator alone. */
import { OpenAPIHono, z } from '@hono/zod-openapi';
import { seconds } from './account-body.ts';
import type { ResolveAdmin } from './admin.ts';
import { describeAdmin, readBody } from './admin-route.ts';
import type { LedgerRow, OpenReservation, QueueJob } from './books.ts';
import { refuse } from './refusal.ts';
import { type ApiEnv, schemaFailure } from './request.ts';

/** One answer of an object; a thousand rows are about 300 kB. */
const MAX_ROWS = 1000;
const MAX_SHARD = 63;
const integer = (least: number, most: number) => z.coerce.number().pipe(z.int().min(least).max(most));
const page = {
  after: integer(0, Number.MAX_SAFE_INTEGER).default(0),
  limit: integer(1, MAX_ROWS).default(MAX_ROWS),
};
const PageQuery = z.object(page);
const JobsQuery = z.object({ ...page, model: z.string().min(1).max(200), shard: integer(0, MAX_SHARD).default(0) });

const AgainBody = z.strictObject({
  after: z.int().min(0).default(0).openapi({ description: 'The `seq` of the last row that is not sent again.' }),
});

export function bookAdminRoutes(resolve: ResolveAdmin): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  describe(app);
  app.get('/admin/jobs', async (c) => {
    const query = JobsQuery.safeParse(c.req.query());
    if (!query.success) return refuse(c, schemaFailure(query.error));
    const { model, shard, ...page } = query.data;
    const found = await resolve(c).queueJobs(model, shard, page);
    if (!found.ok) return refuse(c, found.failure);
    const { jobs, shards } = found.value;
    return c.json({ object: 'list', data: jobs.map(jobBody), has_more: jobs.length === page.limit, shards });
  });
  app.get('/admin/accounts/:id/ledger', async (c) => {
    const query = PageQuery.safeParse(c.req.query());
    if (!query.success) return refuse(c, schemaFailure(query.error));
    const found = await resolve(c).ledger(c.req.param('id'), query.data);
    if (!found.ok) return refuse(c, found.failure);
    const { rows, reservations } = found.value;
    const has_more = rows.length === query.data.limit;
    return c.json({
      object: 'list',
      data: rows.map(rowBody),
      has_more,
      reservations: reservations.map(reservationBody),
    });
  });
  app.get('/admin/accounts/:id/export', async (c) => {
    const query = PageQuery.safeParse(c.req.query());
    if (!query.success) return refuse(c, schemaFailure(query.error));
    const rows = await resolve(c).exported(c.req.param('id'), query.data);
    if (!rows.ok) return refuse(c, rows.failure);
    return c.json({ object: 'list', data: rows.value.map(rowBody), has_more: rows.value.length === query.data.limit });
  });
  app.post('/admin/accounts/:id/export', async (c) => {
    const body = await readBody(c, AgainBody);
    if (!body.ok) return refuse(c, body.failure);
    const { after } = body.value;
    const again = await resolve(c).exportAgain(c.req.param('id'), after, c.var.actor);
    return again.ok ? c.json({ after, last: again.value.last }) : refuse(c, again.failure);
  });
  return app;
}

function jobBody({ billed, ...job }: QueueJob) {
  return {
    seq: job.seq,
    id: job.jobId,
    account_id: job.accountId,
    status: job.status,
    leases: job.epoch,
    accepted_tokens: job.acceptedTokens,
    billed:
      billed === null
        ? null
        : {
            prompt_tokens: billed.promptTokens,
            cached_tokens: billed.cachedTokens,
            completion_tokens: billed.completionTokens,
          },
    settled: job.settled,
    created: seconds(job.enqueuedMs),
    ended: job.endedMs === null ? null : seconds(job.endedMs),
  };
}

function rowBody(row: LedgerRow) {
  return {
    seq: row.seq,
    request_id: row.jobId,
    key_id: row.keyId,
    model: row.model,
    status: row.status,
    prompt_tokens: row.promptTokens,
    cached_tokens: row.cachedTokens,
    completion_tokens: row.completionTokens,
    cost_pico_usd: row.costPico.toString(),
    backend: row.backend,
    created_ms: row.createdMs,
    settled_ms: row.settledMs,
  };
}

function reservationBody(reservation: OpenReservation) {
  return {
    request_id: reservation.jobId,
    queue: reservation.queue,
    reserved_pico_usd: reservation.pico.toString(),
    created_ms: reservation.createdMs,
    check_ms: reservation.checkMs,
  };
}

/** The routes for the OpenAPI page. */
function describe(app: OpenAPIHono<ApiEnv>): void {
  const one = '/admin/accounts/{id}';
  describeAdmin(app, 'get', '/admin/jobs', "A queue's jobs while it keeps them: ids, status and counts, no prompts");
  describeAdmin(app, 'get', `${one}/ledger`, 'Every row of the ledger, the oldest first, and the open reservations');
  describeAdmin(app, 'get', `${one}/export`, 'The rows of the reporting copy, some seconds behind the ledger');
  describeAdmin(app, 'post', `${one}/export`, 'Feed the reporting copy again with rows that it lost', AgainBody);
}
