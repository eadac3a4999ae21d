/** Keys: which are believed without storage, and which are not. */
import { expect, test } from 'vitest';
import { isAdminKey, KeyRing, parseKey, sha256Hex } from '../../edge/auth.ts';
import { call, newAccount, service } from './edge-under-test.ts';

const one = '11'.repeat(32);
const two = '22'.repeat(32);
const ring = new KeyRing(JSON.stringify({ 1: one, 2: two }));
const account = 'Account00001';

test('a minted key names its account and is believed; only its hash is handed on', async () => {
  const { key, identity } = await ring.mint(account);
  const { keyId, secretHash } = identity;
  expect(key).toMatch(/^nbl_2Account00001[0-9A-Za-z]{52}$/);
  expect(await ring.verify(key, '192.0.2.1')).toEqual({ accountId: account, keyId, secretHash, clientIp: '192.0.2.1' });
  expect(identity).toMatchObject({ prefix: key.slice(0, 12), lastFour: key.slice(-4) });
  expect(secretHash).toBe(await sha256Hex(parseKey(key)!.secret));
  expect(JSON.stringify(identity)).not.toContain(parseKey(key)!.secret);
});

test('a key with any character changed is refused', async () => {
  const { key } = await ring.mint(account);
  for (let at = 4; at < key.length; at++) {
    const other = key[at] === 'a' ? 'b' : 'a';
    expect(await ring.verify(key.slice(0, at) + other + key.slice(at + 1)), `character ${at}`).toBeNull();
  }
});

test('case matters, and so does length', async () => {
  const { key } = await ring.mint(account);
  for (const wrong of [key.toLowerCase(), key.toUpperCase(), key.slice(0, -1), `${key}0`, ` ${key}`, key.slice(4), ''])
    expect(await ring.verify(wrong)).toBeNull();
});

test('a key is believed under both versions while rotating, and no longer when its version is gone', async () => {
  const { key } = await new KeyRing(JSON.stringify({ 1: one })).mint(account);
  expect(await ring.verify(key)).not.toBeNull();
  expect(await new KeyRing(JSON.stringify({ 2: two })).verify(key)).toBeNull();
  expect(await new KeyRing(JSON.stringify({ 1: two })).verify(key)).toBeNull();
});

test.each([undefined, '', '{', '[]', '{}', '{"1":"ab"}', `{"10":"${one}"}`])('KEY_SECRETS %j is refused', (secrets) => {
  expect(() => new KeyRing(secrets)).toThrow('KEY_SECRETS');
});

test('the admin key is compared whole, and a short one is a mistake of the operator', async () => {
  const adminKey = 'a-root-credential';
  expect(await isAdminKey(adminKey, adminKey)).toBe(true);
  for (const wrong of [null, '', 'a-root-credentia', 'a-root-credential ', 'A-root-credential'])
    expect(await isAdminKey(adminKey, wrong)).toBe(false);
  await expect(isAdminKey('short', 'short')).rejects.toThrow('ADMIN_KEY');
  await expect(isAdminKey(undefined, '')).rejects.toThrow('ADMIN_KEY');
});

test('a signed key that the account never made is refused by the account', async () => {
  const { id } = await newAccount();
  const { key } = await new KeyRing(JSON.stringify({ 2: two })).mint(id);
  expect((await service.authenticate(`Bearer ${key}`, null)).ok).toBe(true);
  expect((await call('GET', '/v1/account', key)).status).toBe(401);
  expect((await call('GET', '/v1/models', key)).status).toBe(401);
});
