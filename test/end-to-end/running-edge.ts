/** RunningEdge: `nibble dev` as a person starts it, in a process and a state directory of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { freePort } from '../../gpu-worker/free-port.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const NIBBLE = join(ROOT, 'bin', 'nibble');
export const CLI = join(ROOT, 'gpu-worker', 'cli.ts');
export const DEMO = join(ROOT, 'models', 'demo', 'gptq-int4');
const START_MS = 60_000;

export interface UsageRowJson {
  request_id: string;
  model: string;
  prompt_tokens: number;
  completion_tokens: number;
  cost_usd: number;
  status: string;
  backend: string | null;
}

export class RunningEdge {
  readonly url: string;
  readonly apiKey: string;
  readonly adminKey: string;
  readonly workerToken: string;
  readonly models: string[];
  readonly #process: Spawned;
  readonly #state: string;

  private constructor(
    process: Spawned,
    state: string,
    ready: Pick<RunningEdge, 'url' | 'apiKey' | 'adminKey' | 'workerToken' | 'models'>,
  ) {
    this.#process = process;
    this.#state = state;
    this.url = ready.url;
    this.apiKey = ready.apiKey;
    this.adminKey = ready.adminKey;
    this.workerToken = ready.workerToken;
    this.models = ready.models;
  }

  static async start(args: readonly string[] = []): Promise<RunningEdge> {
    const state = await mkdtemp(join(tmpdir(), 'nibble-edge-'));
    const process = new Spawned(NIBBLE, ['dev', '--state', state, '--port', String(await freePort()), ...args]);
    try {
      await process.printed(/Ctrl-C stops everything/, START_MS);
      return new RunningEdge(process, state, JSON.parse(await readFile(join(state, 'dev.json'), 'utf8')));
    } catch (error) {
      await process.end('SIGKILL');
      await rm(state, { recursive: true, force: true });
      throw error;
    }
  }

  get output(): string {
    return this.#process.output;
  }

  get processId(): number {
    return this.#process.child.pid!;
  }

  headers(key = this.apiKey): Record<string, string> {
    return { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  }

  post(path: string, body: unknown, init: RequestInit = {}): Promise<Response> {
    return fetch(`${this.url}${path}`, {
      method: 'POST',
      headers: this.headers(),
      body: JSON.stringify(body),
      ...init,
    });
  }

  /** The request's ledger row, waiting for its settlement at most 2 s. */
  async usageOf(requestId: string): Promise<UsageRowJson> {
    for (let tries = 0; tries < 20; tries++) {
      const response = await fetch(`${this.url}/v1/usage?request_id=${requestId}`, { headers: this.headers() });
      const { data } = (await response.json()) as { data: UsageRowJson[] };
      if (data.length > 1) throw new Error(`${data.length} ledger rows for ${requestId}`);
      if (data[0] !== undefined) return data[0];
      await setTimeout(100);
    }
    throw new Error(`no ledger row for ${requestId} within 2 s`);
  }

  /** Another worker for this edge, without the launcher before it, so that a signal hits the worker itself. Resolves when it is linked. */
  async addWorker(args: readonly string[]): Promise<Spawned> {
    const worker = new Spawned(process.execPath, [
      CLI,
      'serve',
      '--edge',
      this.url,
      '--token',
      this.workerToken,
      ...args,
    ]);
    await worker.printed(/linked to/, START_MS);
    return worker;
  }

  /** As Ctrl-C does. Resolves to the exit code. */
  async stop(): Promise<number | null> {
    const code = await this.#process.end('SIGINT');
    await rm(this.#state, { recursive: true, force: true });
    return code;
  }
}

/** A command that runs until it is told to end. */
export class Spawned {
  readonly child: ChildProcess;
  output = '';
  /** It has ended, and all that it printed is in `output`. */
  #closed = false;

  constructor(command: string, args: readonly string[], environment: Record<string, string> = {}) {
    this.child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment },
    });
    for (const stream of [this.child.stdout!, this.child.stderr!])
      stream.on('data', (bytes: Buffer) => {
        this.output += bytes.toString();
      });
    this.child.once('close', () => {
      this.#closed = true;
    });
  }

  async printed(pattern: RegExp, withinMs: number): Promise<void> {
    for (const deadline = performance.now() + withinMs; performance.now() < deadline; await setTimeout(50)) {
      if (pattern.test(this.output)) return;
      if (this.#closed) break;
    }
    throw new Error(`${pattern} was not printed:\n${this.output}`);
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exited = new Promise((resolve) => this.child.once('exit', resolve));
      this.child.kill(signal);
      await exited;
    }
    return this.child.exitCode;
  }
}

/** A `nibble` command that ends by itself. */
export async function nibble(
  args: readonly string[],
  environment: Record<string, string> = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(NIBBLE, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...environment } });
  const read = async (stream: NodeJS.ReadableStream) => {
    let text = '';
    for await (const piece of stream) text += piece.toString();
    return text;
  };
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const [stdout, stderr, code] = await Promise.all([read(child.stdout!), read(child.stderr!), exited]);
  return { code, stdout, stderr };
}
