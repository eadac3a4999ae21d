/** Counting entry: the edge as it is deployed, and beside it counts of what Cloudflare bills. For docs/costs.md only; never deployed. */

import type { Env } from '../../edge/env.ts';
import edge, * as objects from '../../edge/index.ts';
import type { ReportMessage } from '../../edge/report/message.ts';
import type { Counts } from './counts.ts';

const BINDINGS = {
  ACCOUNT: 'AccountObject',
  QUEUE: 'QueueObject',
  CATALOG: 'CatalogObject',
  DIRECTORY: 'DirectoryObject',
} as const;
type Name = (typeof BINDINGS)[keyof typeof BINDINGS];

const counts = new Map<string, Counts>();
const cursors: { name: string; cursor: SqlStorageCursor<Record<string, SqlStorageValue>> }[] = [];

function countsOf(name: string): Counts {
  let own = counts.get(name);
  if (own === undefined) {
    own = { requests: 0, messages: 0, alarms: 0, alarmsSet: 0, rowsRead: 0, rowsWritten: 0 };
    counts.set(name, own);
  }
  return own;
}

/** A cursor knows its rows once it was read. */
function settle(): void {
  for (const { name, cursor } of cursors) {
    countsOf(name).rowsRead += cursor.rowsRead;
    countsOf(name).rowsWritten += cursor.rowsWritten;
  }
  cursors.length = 0;
}

/** Every call through a stub is a request of the object it leads to. */
function watched(env: Env): Env {
  const changed: Record<string, unknown> = { ...env };
  for (const [binding, name] of Object.entries(BINDINGS)) {
    const namespace = env[binding as keyof typeof BINDINGS] as DurableObjectNamespace;
    changed[binding] = {
      getByName: (objectName: string) =>
        new Proxy(namespace.getByName(objectName) as object, {
          get:
            (stub, method) =>
            (...args: unknown[]) => {
              countsOf(name).requests += 1;
              return (stub as Record<string | symbol, (...args: unknown[]) => unknown>)[method]!(...args);
            },
        }),
    };
  }
  return changed as unknown as Env;
}

type ObjectClass = new (ctx: DurableObjectState, env: Env) => object;

function counted(name: Name): ObjectClass {
  const Base = objects[name] as unknown as ObjectClass;
  return class extends Base {
    constructor(ctx: DurableObjectState, env: Env) {
      watch(name, ctx.storage);
      super(ctx, watched(env));
    }

    webSocketMessage(...args: unknown[]): unknown {
      countsOf(name).messages += 1;
      return (super['webSocketMessage' as keyof object] as (...args: unknown[]) => unknown)(...args);
    }

    alarm(...args: unknown[]): unknown {
      countsOf(name).alarms += 1;
      return (super['alarm' as keyof object] as (...args: unknown[]) => unknown)(...args);
    }
  };
}

function watch(name: string, storage: DurableObjectStorage): void {
  const { sql } = storage;
  const exec = sql.exec.bind(sql);
  const setAlarm = storage.setAlarm.bind(storage);
  Object.defineProperty(sql, 'exec', {
    value: (query: string, ...bindings: SqlStorageValue[]) => {
      const cursor = exec(query, ...bindings);
      cursors.push({ name, cursor });
      return cursor;
    },
  });
  Object.defineProperty(storage, 'setAlarm', {
    value: (timeMs: number) => {
      countsOf(name).alarmsSet += 1;
      return setAlarm(timeMs);
    },
  });
}

export const AccountObject = counted('AccountObject');
export const QueueObject = counted('QueueObject');
export const CatalogObject = counted('CatalogObject');
export const DirectoryObject = counted('DirectoryObject');

const envs = new WeakMap<object, Env>();

export default {
  ...edge,
  fetch(request, env, ctx) {
    if (new URL(request.url).pathname === '/counts') {
      settle();
      return Response.json(Object.fromEntries(counts));
    }
    if (!envs.has(env)) envs.set(env, watched(env));
    return edge.fetch!(request, envs.get(env)!, ctx);
  },
} satisfies ExportedHandler<Env, ReportMessage>;
