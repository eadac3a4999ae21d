/** Credentials: one of every kind that may come to a route, good and bad. */
import { ADMIN_KEY, admin, newAccount } from '../edge-under-test.ts';

export const CREDENTIALS = [
  'none',
  'not a key',
  'forged',
  'client',
  'admin',
  'worker',
  'revoked',
  'expired',
  'rotated away',
  'elsewhere',
  'other admin',
  'root',
  'root and a letter',
] as const;
export type Credential = (typeof CREDENTIALS)[number];

/** The account that the routes are about, and its credentials. `other admin` administers another account. */
export async function credentials(): Promise<{ id: string; keyId: string; of: Record<Credential, string | null> }> {
  const [account, other] = [await newAccount(), await newAccount()];
  const keys = `/accounts/${account.id}/keys`;
  const make = (body: object, path = keys) => admin<{ id: string; key: string }>('POST', path, body);
  const revoked = await make({});
  await admin('DELETE', `${keys}/${revoked.id}`);
  const rotated = await make({});
  await admin('POST', `${keys}/${rotated.id}/rotate`, {});
  const spare = await make({ name: 'spare' });
  return {
    id: account.id,
    keyId: spare.id,
    of: {
      none: null,
      'not a key': 'sk-1234567890',
      forged: account.apiKey.slice(0, -1) + (account.apiKey.endsWith('a') ? 'b' : 'a'),
      client: account.apiKey,
      admin: (await make({ scopes: ['admin'] })).key,
      worker: account.workerToken,
      revoked: revoked.key,
      expired: (await make({ expires_at: 1 })).key,
      'rotated away': rotated.key,
      elsewhere: (await make({ scopes: ['client', 'admin', 'worker'], allowed_ips: ['192.0.2.0/24'] })).key,
      'other admin': (await make({ scopes: ['admin'] }, `/accounts/${other.id}/keys`)).key,
      root: ADMIN_KEY,
      'root and a letter': `${ADMIN_KEY}x`,
    },
  };
}
