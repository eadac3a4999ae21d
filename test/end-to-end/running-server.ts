/** RunningServer: `nibble serve` without an edge, in a process of its own. */
import { freePort } from '../../gpu-worker/free-port.ts';
import { CLI, DEMO, Spawned } from './running-edge.ts';

const START_MS = 60_000;
export const KEY = 'a-key-of-the-operators-own';

export class RunningServer {
  readonly url: string;
  readonly process: Spawned;

  private constructor(process: Spawned, url: string) {
    this.process = process;
    this.url = url;
  }

  /** Without the launcher before it, so that a signal hits the server itself. */
  static async start(args: readonly string[] = [], environment: Record<string, string> = {}): Promise<RunningServer> {
    const port = String(await freePort());
    const flags = ['--model-id', DEMO, '--backend', 'wasm', '--hostname', '127.0.0.1', '--port', port];
    const process = new Spawned(globalThis.process.execPath, [CLI, 'serve', ...flags, ...args], environment);
    try {
      await process.printed(/serving .* on http/, START_MS);
    } catch (error) {
      await process.end('SIGKILL');
      throw error;
    }
    return new RunningServer(process, `http://127.0.0.1:${port}`);
  }

  post(path: string, body: unknown, init: RequestInit = {}): Promise<Response> {
    return fetch(`${this.url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${KEY}` },
      body: JSON.stringify(body),
      ...init,
    });
  }

  get(path: string, key = KEY): Promise<Response> {
    return fetch(`${this.url}${path}`, { headers: { authorization: `Bearer ${key}` } });
  }

  /** One sample of /metrics, by its whole name with labels; null when it is not there. */
  async metric(name: string): Promise<number | null> {
    const text = await (await this.get('/metrics')).text();
    const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
    return line === undefined ? null : Number(line.slice(name.length + 1));
  }

  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    return this.process.end(signal);
  }
}
