/** Forged keys: none of 100,000 reaches a Durable Object. The whole Worker runs; its bindings count who is asked. */
import { createExecutionContext } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { expect, test } from 'vitest';
import worker from '../../../edge/index.ts';
import { newAccount } from '../edge-under-test.ts';
import { seeded } from '../ledger/seeded.ts';

const NUM_KEYS = 100_000;
const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** The bindings, with a count of every object that was named. */
function counting(): { bindings: typeof env; asked: () => number } {
  let asked = 0;
  const watch = <Namespace extends object>(namespace: Namespace): Namespace =>
    new Proxy(namespace, {
      get(target, name) {
        const value = Reflect.get(target, name);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) => {
          asked += 1;
          return value.apply(target, args);
        };
      },
    });
  const { ACCOUNT, QUEUE, CATALOG, DIRECTORY } = env;
  const objects = {
    ACCOUNT: watch(ACCOUNT),
    QUEUE: watch(QUEUE),
    CATALOG: watch(CATALOG),
    DIRECTORY: watch(DIRECTORY),
  };
  return { bindings: { ...env, ...objects }, asked: () => asked };
}

test('100,000 forged or mutated keys are refused without one call to a Durable Object', {
  timeout: 300_000,
}, async () => {
  const [account, other] = [await newAccount(), await newAccount()];
  const { bindings, asked } = counting();
  const random = seeded(7);
  const letter = () => BASE62[random(62)]!;
  const text = (chars: number) => Array.from({ length: chars }, letter).join('');
  const { apiKey: key } = account;
  const mutations: (() => string)[] = [
    () => {
      const at = 4 + random(key.length - 4);
      return key.slice(0, at) + letter() + key.slice(at + 1);
    },
    () => `nbl_1${text(64)}`,
    () => `nbl_${letter()}${key.slice(5)}`,
    // Another account's name under this key's tag, and this account's under the other's.
    () => key.slice(0, 5) + other.apiKey.slice(5, 17) + key.slice(17),
    () => key.slice(0, 57) + other.apiKey.slice(57),
    () => `nbl_1${account.id}${text(8)}${text(32)}${text(12)}`,
    () => key.slice(0, random(key.length)),
    () => key + text(1 + random(4)),
    () => key.toLowerCase(),
    () => text(1 + random(200)),
  ];
  const routes = [
    '/v1/models',
    '/v1/usage',
    '/v1/account',
    '/admin/accounts',
    '/link?model=m',
    `/admin/accounts/${account.id}/keys`,
  ];
  const context = createExecutionContext();
  const send = (given: string, path: string) =>
    worker.fetch!(
      new Request(`http://edge${path}`, { headers: { authorization: `Bearer ${given}` } }) as never,
      bindings,
      context,
    );
  let refused = 0;
  for (let n = 0; n < NUM_KEYS; n++) {
    const forged = mutations[n % mutations.length]!();
    // A mutation may draw the letter that was there.
    if (forged === key || forged === '') {
      refused += 1;
      continue;
    }
    const response = await send(forged, routes[n % routes.length]!);
    if (response.status === 401) refused += 1;
  }
  expect({ refused, asked: asked() }).toEqual({ refused: NUM_KEYS, asked: 0 });
  // And a true key is counted, so that the count is one.
  expect((await send(key, '/v1/account')).status).toBe(200);
  expect(asked()).toBeGreaterThan(0);
});
