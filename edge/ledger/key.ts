/** Key: what an account knows of one API key, and whether it may do something. Plain values; the secret itself is nowhere. */
import type { Failure } from '../../core/errors.ts';
import type { KeySettings, KeyState } from '../api/accounts.ts';
import { isAllowed } from '../api/ip.ts';
import type { Scope } from '../api/service.ts';

/** What minting makes of it. */
export type KeyIdentity = Pick<KeyState, 'keyId' | 'prefix' | 'lastFour'> & { secretHash: string };

export interface Wanted {
  /** Null: any scope will do. */
  scope: Scope | readonly Scope[] | null;
  model: string | null;
}

/** Why a key may not do something, or null when it may. Pure: the row, what is wanted from where, and `now`. */
export function refusalOf(
  key: Pick<KeySettings, 'scopes' | 'models' | 'ips' | 'expiresMs'> & { revokedMs: number | null },
  wanted: Wanted,
  clientIp: string | null,
  nowMs: number,
): Failure | null {
  if (key.revokedMs !== null || (key.expiresMs !== null && key.expiresMs <= nowMs)) return { code: 'invalid_key' };
  if (key.ips !== null && (clientIp === null || !isAllowed(key.ips, clientIp))) return { code: 'address_forbidden' };
  const scopes = wanted.scope === null || typeof wanted.scope === 'string' ? [wanted.scope] : wanted.scope;
  if (!scopes.some((scope) => scope === null || key.scopes.includes(scope)))
    return { code: 'scope_missing', scope: scopes.join(' or ') };
  if (wanted.model !== null && key.models !== null && !key.models.includes(wanted.model))
    return { code: 'model_forbidden', model: wanted.model };
  return null;
}
