/** FileLock: one process at a time, by a file that outlives its holder's crash without outliving its use. */
import { randomUUID } from 'node:crypto';
import { open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';

/** A holder on another machine, or in another container, counts as dead when it has not renewed its lock for so long. */
const STALE_MS = 30_000;
const RENEW_MS = 10_000;
const POLL_MS = 50;

interface Holder {
  pid: number;
  host: string;
}

export interface HeldLock {
  release(): Promise<void>;
}

/**
 * Waits for the lock and takes it. A lock of a dead process is taken over. Two that take over the same lock at once may both hold
 * it: use it to spare work, never for correctness. Errors other than "exists" are the file system's own.
 */
export async function acquireLock(path: string): Promise<HeldLock> {
  for (;;) {
    const handle = await open(path, 'wx').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST') return null;
      throw error;
    });
    if (handle === null) {
      if (await isDead(path)) await bury(path);
      else await sleep(POLL_MS);
      continue;
    }
    try {
      await handle.writeFile(JSON.stringify({ pid: process.pid, host: hostname() } satisfies Holder));
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    } finally {
      await handle.close();
    }
    const renewing = setInterval(() => {
      const now = new Date();
      utimes(path, now, now).catch(() => {});
    }, RENEW_MS).unref();
    return {
      async release() {
        clearInterval(renewing);
        await rm(path, { force: true });
      },
    };
  }
}

async function isDead(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  // Released in this moment.
  if (found === null) return false;
  if (Date.now() - found.mtimeMs > STALE_MS) return true;
  const holder = parseHolder(await readFile(path, 'utf8').catch(() => ''));
  if (holder === null || holder.host !== hostname()) return false;
  try {
    process.kill(holder.pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/** null of a lock whose holder has not written itself into it yet, or never will: its age will tell. */
function parseHolder(text: string): Holder | null {
  try {
    const { pid, host } = JSON.parse(text) as Holder;
    return Number.isSafeInteger(pid) && pid > 0 ? { pid, host } : null;
  } catch {
    return null;
  }
}

/** Moved first: only one of several finds it. */
async function bury(path: string): Promise<void> {
  const grave = `${path}.${randomUUID()}.tmp`;
  await rename(path, grave).catch(() => {});
  await rm(grave, { force: true });
}
