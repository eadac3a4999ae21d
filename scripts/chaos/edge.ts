/** Edge: the chaos build of the edge (or production's) in workerd, with its objects, its queue and its D1 on disk, and the hook that breaks them. */
import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import process from 'node:process';
import type * as Miniflare_ from 'miniflare';
import type { Ask } from '../../gpu-worker/books.ts';
import { bundle } from './bundle.ts';

const HOST = '127.0.0.1';
/** The port that workerd gives the Worker itself: miniflare's own entry before it would hide disconnects. */
const DIRECT = [{ host: HOST, port: 0 }];

export type Target = { account: string } | { queue: string };

export class Edge {
  readonly url: string;
  readonly adminKey: string;
  readonly #miniflare: Miniflare_.Miniflare;

  private constructor(miniflare: Miniflare_.Miniflare, url: string, adminKey: string) {
    this.#miniflare = miniflare;
    this.url = url;
    this.adminKey = adminKey;
  }

  /** Bundles and starts; everything that it keeps, and workerd's log, is below `folder`. */
  static async start(
    folder: string,
    variables: Record<string, string>,
    kind: 'production' | 'chaos' = 'chaos',
  ): Promise<Edge> {
    Object.assign(process.env, { WRANGLER_SEND_METRICS: 'false', CLOUDFLARE_CF_FETCH_ENABLED: 'false', CI: '1' });
    const { config, script } = await bundle(kind, join(folder, 'bundle'));
    const { unstable_getMiniflareWorkerOptions: optionsOf } = await import('wrangler');
    // Wrangler's own copy, so that both always fit.
    const { convertV4MiniflareOptions, Miniflare, NoOpLog } = createRequire(
      createRequire(import.meta.url).resolve('wrangler'),
    )('miniflare') as typeof Miniflare_;
    const { workerOptions } = optionsOf(config);
    const { FALLBACK: _, ...durableObjects } = workerOptions.durableObjects as Record<string, object>;
    const adminKey = `admin-${randomBytes(24).toString('base64url')}`;
    const log = createWriteStream(join(folder, 'edge.log'));
    const miniflare = new Miniflare(
      convertV4MiniflareOptions({
        host: HOST,
        port: 0,
        log: new NoOpLog(),
        handleStructuredLogs: (line) => log.write(`${JSON.stringify(line)}\n`),
        resourcePersistencePath: join(folder, 'state'),
        workers: [
          {
            ...workerOptions,
            durableObjects,
            name: 'nibble',
            modules: [{ type: 'ESModule', path: script }],
            modulesRoot: join(script, '..'),
            unsafeDirectSockets: DIRECT,
            bindings: {
              ...(workerOptions.bindings as Record<string, number>),
              ...variables,
              KEY_SECRETS: JSON.stringify({ 1: randomBytes(32).toString('hex') }),
              ADMIN_KEY: adminKey,
            },
          },
        ],
      } as Miniflare_.V4MiniflareOptions),
    );
    await miniflare.ready;
    return new Edge(miniflare, (await miniflare.unsafeGetDirectURL('nibble')).origin, adminKey);
  }

  /** A GET of the admin API. Objects crash under it: it asks again for a while. */
  readonly ask: Ask = async (path) => {
    for (let tries = 0; ; tries++) {
      const response = await fetch(`${this.url}/admin${path}`, { headers: this.#headers }).catch(() => null);
      if (response?.ok) return response.json();
      await response?.body?.cancel();
      if (tries === 120) throw new Error(`GET /admin${path} answered ${response?.status ?? 'nothing'}`);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  };

  async post<Answer>(path: string, body: object): Promise<Answer> {
    const init = { method: 'POST', headers: this.#headers, body: JSON.stringify(body) };
    const response = await fetch(`${this.url}/admin${path}`, init);
    if (!response.ok) throw new Error(`POST /admin${path} answered ${response.status}: ${await response.text()}`);
    return (await response.json()) as Answer;
  }

  /** Crashes or slows an object, or spoils the next settlement that reaches an account. */
  async inject(fault: string, target: Target, ms = 0): Promise<void> {
    const response = await fetch(`${this.url}/chaos/${fault}?${new URLSearchParams({ ...target, ms: String(ms) })}`, {
      method: 'POST',
    });
    if (response.status !== 204) throw new Error(`the fault "${fault}" answered ${response.status}`);
  }

  /** As the platform takes an idle object out of memory: hibernatable sockets stay. */
  async evict(target: Target): Promise<void> {
    const [className, name] = 'account' in target ? ['AccountObject', target.account] : ['QueueObject', target.queue];
    await this.#miniflare.unsafeEvictDurableObject('nibble', className, { name });
  }

  stop(): Promise<void> {
    return this.#miniflare.dispose();
  }

  get #headers() {
    return { authorization: `Bearer ${this.adminKey}`, 'content-type': 'application/json' };
  }
}
