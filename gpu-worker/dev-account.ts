/** DevAccount: the development account, its keys and its model's fallback, made through the admin API as an operator would. */
import { readFile } from 'node:fs/promises';
import { NibbleError } from '../core/errors.ts';

export interface DevKeys {
  apiKey: string;
  workerToken: string;
}

/** Enough that nobody runs dry while developing, little enough to see it move. */
const CREDIT_USD = 100;

/** The keys of an earlier run when they still work, new ones otherwise. `path` is dev.json of the earlier run. */
export async function devKeys(url: string, adminKey: string, path: string): Promise<DevKeys> {
  const kept = await readFile(path, 'utf8').then(
    (text) => JSON.parse(text) as DevKeys,
    () => null,
  );
  if (kept !== null && (await works(url, kept.apiKey))) return { apiKey: kept.apiKey, workerToken: kept.workerToken };
  const account = await send<{ id: string }>('POST', url, adminKey, '/admin/accounts', {
    name: 'development',
    credit_usd: CREDIT_USD,
  });
  const keys = `/admin/accounts/${account.id}/keys`;
  const client = await send<{ key: string }>('POST', url, adminKey, keys, { name: 'development', scopes: ['client'] });
  const worker = await send<{ key: string }>('POST', url, adminKey, keys, {
    name: 'development worker',
    scopes: ['worker'],
  });
  return { apiKey: client.key, workerToken: worker.key };
}

/** Lets the edge answer for a model while no worker does. Throws with the edge's reason when it cannot. */
export async function allowFallback(url: string, adminKey: string, model: string): Promise<void> {
  await send('PUT', url, adminKey, `/admin/models/${encodeURIComponent(model)}`, { fallback: 'when-no-worker' });
}

async function works(url: string, apiKey: string): Promise<boolean> {
  const response = await fetch(`${url}/v1/account`, { headers: { authorization: `Bearer ${apiKey}` } });
  await response.body?.cancel();
  return response.status === 200;
}

async function send<Answer>(
  method: string,
  url: string,
  adminKey: string,
  path: string,
  body: unknown,
): Promise<Answer> {
  const response = await fetch(`${url}${path}`, {
    method,
    headers: { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok)
    throw new NibbleError({
      code: 'internal',
      reason: `${method} ${path} answered ${response.status}: ${await response.text()}`,
    });
  return (await response.json()) as Answer;
}
