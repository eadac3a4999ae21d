/**
 * API keys: `nbl_` + version (1) + account (12) + key (8) + secret (32) + tag (12), base62, fixed widths.
 * The tag is an HMAC-SHA-256 over all before it under the version's secret, so that a forged key is refused without storage.
 */
import { NibbleError } from '../core/errors.ts';
import type { Caller } from './api/service.ts';
import type { KeyIdentity } from './ledger/key.ts';

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const TAG_CHARS = 12;
/** What is shown of a key in lists: `nbl_`, its version and the beginning of its account, nothing of its secret. */
const PREFIX_CHARS = 12;
const KEY_PATTERN = /^(nbl_([0-9A-Za-z])([0-9A-Za-z]{12})([0-9A-Za-z]{8})([0-9A-Za-z]{32}))([0-9A-Za-z]{12})$/;
/** Below this an ADMIN_KEY is a typing mistake or a password; it is the root credential. */
const MIN_ADMIN_KEY_CHARS = 16;

/** A key as it is shown once, and what is kept of it. */
export interface Minted {
  key: string;
  identity: KeyIdentity;
}

export interface ParsedKey {
  /** What the tag covers. */
  signed: string;
  version: string;
  accountId: string;
  keyId: string;
  secret: string;
  tag: string;
}

/** The fields of a key by their widths; null when the shape is wrong. Says nothing about the tag. */
export function parseKey(key: string): ParsedKey | null {
  const match = KEY_PATTERN.exec(key);
  if (match === null) return null;
  const [, signed, version, accountId, keyId, secret, tag] = match;
  return { signed: signed!, version: version!, accountId: accountId!, keyId: keyId!, secret: secret!, tag: tag! };
}

/** The secrets that sign keys, by version. */
export class KeyRing {
  /** The version that new keys get: the highest. */
  readonly version: string;
  readonly #secrets: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
  /** Imported on first use; the values are kept, not promises, which would tie one request to another's life. */
  readonly #imported = new Map<string, CryptoKey>();

  /** `secrets`: the KEY_SECRETS variable. Throws `not_configured` when it is missing or malformed. */
  constructor(secrets: string | undefined) {
    this.#secrets = parseSecrets(secrets);
    this.version = [...this.#secrets.keys()].sort().at(-1)!;
  }

  /** A new key of the account. Only `identity` is kept; `key` is shown once. `random` makes so many characters. */
  async mint(accountId: string, random = randomBase62): Promise<Minted> {
    const secret = random(32);
    const keyId = random(8);
    const signed = `nbl_${this.version}${accountId}${keyId}${secret}`;
    const tag = await this.#tagOf(signed, this.version);
    if (tag === null || parseKey(signed + tag) === null)
      throw new Error(`a key for account ${accountId} would be malformed`);
    const key = signed + tag;
    const [prefix, lastFour] = [key.slice(0, PREFIX_CHARS), key.slice(-4)];
    return { key, identity: { keyId, secretHash: await sha256Hex(secret), prefix, lastFour } };
  }

  /** Whom a key names, or null when the key was not signed here. Its tag is compared in constant time. */
  async verify(key: string, clientIp: string | null = null): Promise<Caller | null> {
    const parsed = parseKey(key);
    if (parsed === null) return null;
    const tag = await this.#tagOf(parsed.signed, parsed.version);
    if (tag === null || !equalInConstantTime(tag, parsed.tag)) return null;
    const { accountId, keyId, secret } = parsed;
    return { accountId, keyId, secretHash: await sha256Hex(secret), clientIp };
  }

  async #tagOf(signed: string, version: string): Promise<string | null> {
    const secret = this.#secrets.get(version);
    if (secret === undefined) return null;
    let key = this.#imported.get(version);
    if (key === undefined) {
      key = await crypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
      this.#imported.set(version, key);
    }
    const mac = await crypto.subtle.sign('HMAC', key, new TextEncoder().encode(signed));
    return base62(new Uint8Array(mac), TAG_CHARS);
  }
}

/** The credential in an Authorization header; null when it is not a bearer one. */
export function bearer(authorization: string | undefined | null): string | null {
  return /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1] ?? null;
}

/** Whether `given` is the root credential; hashed first, so that its length does not show either. */
export async function isAdminKey(adminKey: string | undefined, given: string | null): Promise<boolean> {
  if (adminKey === undefined || adminKey.length < MIN_ADMIN_KEY_CHARS)
    throw new NibbleError({
      code: 'not_configured',
      reason: `the secret ADMIN_KEY needs at least ${MIN_ADMIN_KEY_CHARS} characters`,
    });
  return equalInConstantTime(await sha256Hex(adminKey), await sha256Hex(given ?? ''));
}

/** Equality of two ASCII texts in a time that depends on their length only. */
export function equalInConstantTime(left: string, right: string): boolean {
  if (left.length !== right.length) return false;
  const encoder = new TextEncoder();
  return crypto.subtle.timingSafeEqual(encoder.encode(left), encoder.encode(right));
}

export async function sha256Hex(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Random base62 text from the platform's generator. */
export function randomBase62(chars: number): string {
  return base62(crypto.getRandomValues(new Uint8Array(2 * chars)), chars);
}

/** Two bytes a character: 65536 mod 62 leaves a bias under 0.1%. */
function base62(bytes: Uint8Array, chars: number): string {
  return Array.from({ length: chars }, (_, at) => BASE62[((bytes[2 * at]! << 8) | bytes[2 * at + 1]!) % 62]).join('');
}

function parseSecrets(text: string | undefined): Map<string, Uint8Array<ArrayBuffer>> {
  const wrong = (rule: string) => new NibbleError({ code: 'not_configured', reason: `the secret KEY_SECRETS ${rule}` });
  if (text === undefined || text === '') throw wrong('is not set');
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw wrong('is not JSON');
  }
  if (typeof json !== 'object' || json === null) throw wrong('is not an object of version → secret');
  const secrets = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const [version, hex] of Object.entries(json)) {
    if (!/^[0-9A-Za-z]$/.test(version)) throw wrong('has a version that is not one letter or digit');
    if (typeof hex !== 'string' || !/^[0-9a-f]{64}$/i.test(hex)) throw wrong('has a secret that is not 64 hex digits');
    secrets.set(
      version,
      Uint8Array.from(hex.match(/../g)!, (pair) => Number.parseInt(pair, 16)),
    );
  }
  if (secrets.size === 0) throw wrong('holds no version');
  return secrets;
}
