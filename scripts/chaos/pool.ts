/** Pool: real workers, each a process of its own behind a proxy of its own, with its journal; they are killed and come back. */
import { type ChildProcess, fork } from 'node:child_process';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { Relay } from './relay.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const CLI = join(ROOT, 'gpu-worker', 'cli.ts');
const LINK_MS = 60_000;

export interface PoolOptions {
  edgeUrl: string;
  token: string;
  /** A model's directory, and the name it is served under. */
  model: string;
  servedName: string;
  size: number;
  slots: number;
  folder: string;
}

export class Pool {
  readonly journals: readonly string[];
  readonly #options: PoolOptions;
  readonly #relays: readonly Relay[];
  readonly #processes: (ChildProcess | null)[];

  private constructor(options: PoolOptions, relays: readonly Relay[]) {
    this.#options = options;
    this.#relays = relays;
    this.#processes = relays.map(() => null);
    this.journals = relays.map((_, index) => join(options.folder, `journal-${index}.jsonl`));
  }

  /** Resolves when all of them are linked. */
  static async start(options: PoolOptions): Promise<Pool> {
    const relays = await Promise.all(Array.from({ length: options.size }, () => Relay.start(options.edgeUrl)));
    const pool = new Pool(options, relays);
    try {
      await Promise.all(relays.map((_, index) => pool.#spawn(index)));
    } catch (error) {
      await pool.stop();
      throw error;
    }
    return pool;
  }

  get size(): number {
    return this.#relays.length;
  }

  /** Ends a worker, without a word or in order, and starts another in its place after a while. Resolves when that one is linked. */
  async replace(index: number, signal: 'SIGKILL' | 'SIGTERM', downMs: number): Promise<void> {
    await end(this.#processes[index] ?? null, signal);
    await new Promise((resolve) => setTimeout(resolve, downMs));
    await this.#spawn(index);
  }

  cut(index: number, kind: 'reset' | 'silent', silentMs: number): void {
    this.#relays[index]!.cut(kind, silentMs);
  }

  /** In order: what runs is finished first. */
  async stop(): Promise<void> {
    await Promise.all(this.#processes.map((worker) => end(worker, 'SIGTERM')));
    for (const proxy of this.#relays) proxy.stop();
  }

  async #spawn(index: number): Promise<void> {
    const { token, model, servedName, slots, folder } = this.#options;
    const flags = {
      edge: this.#relays[index]!.url,
      token,
      'model-id': model,
      'served-model-name': servedName,
      backend: 'wasm',
      threads: '1',
      'max-concurrent-requests': String(slots),
      'graceful-termination-timeout': '10',
      journal: this.journals[index]!,
    };
    const log = openSync(join(folder, `worker-${index}.log`), 'a');
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    const worker = fork(CLI, ['serve', ...args], { stdio: ['ignore', log, log, 'ipc'] });
    this.#processes[index] = worker;
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`worker ${index} did not link in ${LINK_MS} ms`)), LINK_MS);
      worker.once('message', () => {
        clearTimeout(late);
        resolve();
      });
      worker.once('exit', (code, signal) => {
        clearTimeout(late);
        // A kill before it was linked is what this is for.
        if (signal === 'SIGKILL' || signal === 'SIGTERM') resolve();
        else reject(new Error(`worker ${index} ended with ${code ?? signal}; see ${folder}/worker-${index}.log`));
      });
    });
  }
}

async function end(worker: ChildProcess | null, signal: NodeJS.Signals): Promise<void> {
  if (worker === null || worker.exitCode !== null || worker.signalCode !== null) return;
  const exited = new Promise((resolve) => worker.once('exit', resolve));
  worker.kill(signal);
  await exited;
}
