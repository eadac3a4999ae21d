/** Gateway: something that stands between a client and a model that answers at once, started for the edge's bench. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Target } from './traffic.ts';

export interface Gateway {
  name: string;
  version: string;
  /** What it does and does not do of its own, for who reads the numbers. */
  note: string;
  target: Target;
  /** Bytes of memory of its processes now, shared pages counted in each. */
  residentBytes(): number;
  stop(): Promise<void>;
}

const STOP_MS = 5_000;

/** A child whose output is kept for errors, in a process group of its own. */
export class Program {
  readonly name: string;
  readonly child: ChildProcess;
  #output = '';

  constructor(name: string, command: string, args: readonly string[], env: NodeJS.ProcessEnv, cwd: string) {
    this.name = name;
    this.child = spawn(command, args, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const keep = (text: string) => {
      this.#output = (this.#output + text).slice(-4000);
    };
    this.child.stdout!.setEncoding('utf8').on('data', keep);
    this.child.stderr!.setEncoding('utf8').on('data', keep);
    this.child.on('error', (error) => keep(error.message));
  }

  /** Rejects with what it said when it ends or does not answer 200 in time. */
  async answers(url: string, ms: number): Promise<void> {
    const until = performance.now() + ms;
    for (;;) {
      if (this.child.exitCode !== null || this.child.pid === undefined) throw this.#failure('ended');
      const response = await fetch(url).catch(() => null);
      await response?.body?.cancel();
      if (response?.ok) return;
      if (performance.now() > until) throw this.#failure(`did not answer ${url} within ${ms / 1000} s`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Its own and its children's. */
  residentBytes(): number {
    return processTree(this.child.pid!).reduce((sum, pid) => sum + residentBytesOf(pid), 0);
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null || this.child.pid === undefined) return;
    const ended = new Promise<void>((resolve) => this.child.once('exit', () => resolve()));
    const group = -this.child.pid;
    process.kill(group, 'SIGTERM');
    const forced = setTimeout(() => process.kill(group, 'SIGKILL'), STOP_MS);
    await ended;
    clearTimeout(forced);
  }

  #failure(what: string): Error {
    return new Error(`${this.name} ${what}: ${this.#output.trim().slice(-600) || 'it said nothing'}`);
  }
}

function residentBytesOf(pid: number): number {
  try {
    return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

function processTree(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
    return [pid, ...children.flatMap(processTree)];
  } catch {
    return [];
  }
}
